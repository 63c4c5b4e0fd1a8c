package verify_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// vectors is a file of testdata/vectors; docs/vectors.md says how to read it.
type vectors struct {
	About  string
	Config vectorConfig
	JWKS   string
	Cases  []struct {
		Name, Token, Error string
		Config             *vectorConfig
		JWKS               *string
	}
}

type vectorConfig struct {
	Issuer, Audience string
	OtherAudiences   []string `json:"other_audiences"`
	Algorithms       []string
	LeewaySeconds    int `json:"leeway_seconds"`
	Now              int64
}

// errorNames are the classes in the vectors.
var errorNames = map[string]error{
	"ErrMalformed": verify.ErrMalformed, "ErrAlgorithm": verify.ErrAlgorithm, "ErrType": verify.ErrType,
	"ErrUnknownKey": verify.ErrUnknownKey, "ErrSignature": verify.ErrSignature, "ErrIssuer": verify.ErrIssuer,
	"ErrAudience": verify.ErrAudience, "ErrClaims": verify.ErrClaims, "ErrNotYetValid": verify.ErrNotYetValid,
	"ErrExpired": verify.ErrExpired,
}

func TestVectors(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "vectors", "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	total, seen := 0, map[string]int{}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var file vectors
			if err := json.Unmarshal(text, &file); err != nil {
				t.Fatal(err)
			}
			names := map[string]bool{}
			for _, c := range file.Cases {
				if names[c.Name] {
					t.Errorf("two cases are called %q", c.Name)
				}
				names[c.Name] = true
				total++
				seen[c.Error]++
				t.Run(c.Name, func(t *testing.T) {
					config, jwks := file.Config, file.JWKS
					if c.Config != nil {
						config = *c.Config
					}
					if c.JWKS != nil {
						jwks = *c.JWKS
					}
					runVector(t, config, jwks, c.Token, c.Error)
				})
			}
		})
	}
	t.Logf("%d vectors: %v", total, seen)
	if total < 150 {
		t.Errorf("%d vectors, expected at least 150", total)
	}
	for name := range errorNames {
		if seen[name] == 0 {
			t.Errorf("no vector is refused with %s", name)
		}
	}
}

func runVector(t *testing.T, config vectorConfig, jwks, token, class string) {
	t.Helper()
	keys, err := verify.StaticKeys([]byte(jwks), mlDSA...)
	if (class == "KeySet") != (err != nil) {
		t.Fatalf("the key set: %v", err)
	}
	if err != nil {
		return
	}
	leeway := time.Duration(config.LeewaySeconds) * time.Second
	if leeway == 0 {
		leeway = verify.NoLeeway
	}
	v, err := verify.New(verify.Config{
		Issuer: config.Issuer, Audience: config.Audience, OtherAudiences: config.OtherAudiences,
		Keys: keys, Algorithms: config.Algorithms, Extra: mlDSA, Leeway: leeway,
		Now: func() time.Time { return time.Unix(config.Now, 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if class != "" {
		want, known := errorNames[class]
		if !known {
			t.Fatalf("there is no error called %s", class)
		}
		refused(t, v, token, want)
		return
	}
	claims, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if claims.Issuer != config.Issuer || claims.Subject == "" {
		t.Errorf("claims %+v", claims)
	}
}
