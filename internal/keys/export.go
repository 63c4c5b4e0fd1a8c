package keys

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"example.com/authserver/internal/fault"
	"filippo.io/mldsa/x509"
)

// Format is how public keys are written for verifiers that cannot fetch them.
type Format string

// The formats.
const (
	PEM  Format = "pem"  // SubjectPublicKeyInfo, one block a key
	X509 Format = "x509" // a self-signed certificate a key, for gateways that take nothing else
	Set  Format = "jwks" // the JWK set
)

// Export writes the public half of one key of the key set, or of all of them
// for "". Private keys and root keys are never written. A PEM block is led by a
// comment line with kid, algorithm and state, which readers of PEM skip.
func (c *Custodian) Export(ctx context.Context, kid string, format Format) ([]byte, error) {
	_, lives, now, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []Life
	for _, l := range lives {
		if l.Key.Purpose == Sign && l.Stands(now) && (kid == "" || l.Key.KID == kid) {
			chosen = append(chosen, l)
		}
	}
	if len(chosen) == 0 {
		return nil, fault.New(fault.KeyNotFound, "There is no key %.100q in the key set. See: keys status", kid)
	}
	open, err := c.open(chosen)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	switch format {
	case Set:
		var jwks []JWK
		for _, h := range open {
			jwks = append(jwks, h.jwk)
		}
		out.Write(writeSet(jwks))
		out.WriteByte('\n')
		return out.Bytes(), nil
	case PEM, X509:
		for _, h := range open {
			if err := h.writePEM(&out, format, now); err != nil {
				return nil, fmt.Errorf("export key %s: %w", h.Key.KID, err)
			}
		}
		return out.Bytes(), nil
	}
	return nil, fault.New(fault.InvalidRequest, "Format %.40q: want pem, x509 or jwks.", string(format))
}

func (h *held) writePEM(out *bytes.Buffer, format Format, now time.Time) error {
	fmt.Fprintf(out, "# kid=%s alg=%s state=%s\n", h.Key.KID, h.Key.Algorithm, h.State(now))
	block := &pem.Block{Type: "PUBLIC KEY"}
	var err error
	if format == PEM {
		block.Bytes, err = x509.MarshalPKIXPublicKey(h.signer.Public())
	} else {
		if h.Key.Algorithm == MLDSA44 || h.Key.Algorithm == MLDSA65 {
			return fault.New(fault.InvalidRequest, "Key %s is an %s key, which no certificate holds here; name another key, or use the format pem or jwks.", h.Key.KID, h.Key.Algorithm)
		}
		block.Type = "CERTIFICATE"
		block.Bytes, err = h.certificate()
	}
	if err != nil {
		return err
	}
	return pem.Encode(out, block)
}

// certificate wraps the public key. It vouches for nothing; gateways read the
// key out of it. It never expires (RFC 5280 section 4.1.2.5): the timetable
// decides how long a key is good, not the wrapping.
func (h *held) certificate() ([]byte, error) {
	serial := sha256.Sum256([]byte(h.Key.KID))
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always of the same length
	wrapper := &stdx509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial[:16]),
		Subject:               pkix.Name{CommonName: h.Key.KID},
		NotBefore:             h.Key.PublishedAt.UTC(),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              stdx509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	return stdx509.CreateCertificate(rand.Reader, wrapper, wrapper, h.signer.Public(), h.signer)
}
