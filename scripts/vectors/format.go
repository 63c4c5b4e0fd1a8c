package main

// file is one file of vectors. What stands in a case counts in place of what
// stands in its file.
type file struct {
	About  string    `json:"about"`
	Config settings  `json:"config"`
	JWKS   string    `json:"jwks"` // the document, as text
	Cases  []*vector `json:"cases"`
}

// settings are those of a verifier.
type settings struct {
	Issuer         string   `json:"issuer"`
	Audience       string   `json:"audience"`
	OtherAudiences []string `json:"other_audiences,omitempty"`
	Algorithms     []string `json:"algorithms"`
	LeewaySeconds  int      `json:"leeway_seconds"`
	Now            int64    `json:"now"` // seconds since 1970
}

// vector is one case. Error is the name of an error of package verify, empty
// for a token that has to be accepted, and "KeySet" where the key set has to be
// refused.
type vector struct {
	Name   string    `json:"name"`
	Token  string    `json:"token"`
	Config *settings `json:"config,omitempty"`
	JWKS   *string   `json:"jwks,omitempty"`
	Error  string    `json:"error"`
}

const (
	issuer   = "https://auth.example.com"
	audience = "https://api.example.com"
	now      = 1772366400 // 2026-03-01 12:00:00 UTC
)

func defaults() settings {
	return settings{
		Issuer: issuer, Audience: audience, LeewaySeconds: 60, Now: now,
		Algorithms: []string{"ES256", "RS256", "PS256", "ES384", "EdDSA"},
	}
}

func newFile(about string, k *keys) *file {
	return &file{About: about, Config: defaults(), JWKS: k.set()}
}

// accept adds a token that has to be accepted.
func (f *file) accept(name, token string) *vector { return f.refuse("", name, token) }

// refuse adds a token that has to be refused with the error of that name.
func (f *file) refuse(class, name, token string) *vector {
	v := &vector{Name: name, Token: token, Error: class}
	f.Cases = append(f.Cases, v)
	return v
}

// with gives a case settings of its own.
func (v *vector) with(change func(*settings)) *vector {
	s := defaults()
	change(&s)
	v.Config = &s
	return v
}

// trusting gives a case a key set of its own.
func (v *vector) trusting(jwks string) *vector {
	v.JWKS = &jwks
	return v
}
