package app

import (
	"testing"

	"example.com/authserver/verify"
)

// One release, one number: the server and the package that names itself to it.
func TestVersion_isThatOfPackageVerify(t *testing.T) {
	if version != verify.Version {
		t.Errorf("the server is %s, package verify %s", version, verify.Version)
	}
}
