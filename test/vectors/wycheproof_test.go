package vectors

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/c2sp/wycheproof"
)

const copies = "../../verify/testdata/wycheproof"

// The copies are the published files, byte for byte. With UPDATE=1 in the
// environment the published files are written there first.
func TestWycheproof_theCopiesAreWhatWasPublished(t *testing.T) {
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"} {
		published, err := fs.ReadFile(wycheproof.TestVectors, name)
		if err != nil {
			t.Fatal(err)
		}
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(filepath.Join(copies, name), published, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		copied, err := os.ReadFile(filepath.Join(copies, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(copied, published) {
			t.Errorf("%s differs from the published one; UPDATE=1 copies it", name)
		}
	}
}
