package keys

import (
	"bytes"
	stdx509 "crypto/x509"
	"encoding/pem"
	"testing"

	"example.com/authserver/internal/fault"
	"filippo.io/mldsa/x509"
)

func TestExport_whatGatewaysTake(t *testing.T) {
	p := quick()
	p.Algorithms = append(p.Algorithms, RS256, MLDSA44)
	d := open4test(t, p)
	set, _ := d.ring.JWKS()
	jwks, err := d.custodian.Export(t.Context(), "", Set)
	if err != nil || !bytes.Equal(bytes.TrimSpace(jwks), set.Body) {
		t.Fatalf("jwks: %s (%v)", jwks, err)
	}
	keys, err := d.custodian.Export(t.Context(), "", PEM)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for block, rest := pem.Decode(keys); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || block.Type != "PUBLIC KEY" {
			t.Errorf("block %d, %s: %v", n, block.Type, err)
		}
		n++
	}
	if n != 4 || bytes.Contains(keys, []byte("PRIVATE")) || bytes.Contains(keys, []byte("refresh")) {
		t.Fatalf("%d blocks:\n%s", n, keys)
	}
	for _, a := range []Algorithm{ES256, RS256, EdDSA} {
		kid := d.signing(t, a)
		text, err := d.custodian.Export(t.Context(), kid, X509)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		cert, err := stdx509.ParseCertificate(block.Bytes)
		if err != nil || cert.Subject.CommonName != kid || cert.CheckSignatureFrom(cert) == nil && cert.IsCA {
			t.Fatalf("%s: %v", a, err)
		}
		if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
			t.Errorf("%s: its own key does not verify it: %v", a, err)
		}
	}
	if _, err := d.custodian.Export(t.Context(), d.signing(t, MLDSA44), X509); !fault.Is(err, fault.InvalidRequest) {
		t.Errorf("ML-DSA in a certificate: %v", err)
	}
	if _, err := d.custodian.Export(t.Context(), "refresh-1", PEM); !fault.Is(err, fault.KeyNotFound) {
		t.Errorf("a root key: %v", err)
	}
	if _, err := d.custodian.Export(t.Context(), "", "der"); !fault.Is(err, fault.InvalidRequest) {
		t.Errorf("an unknown format: %v", err)
	}
}
