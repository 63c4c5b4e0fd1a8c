package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"

	"example.com/authserver/verify"
)

// refresher refreshes random families of its own share of a fleet, each with
// its newest token. Every refresh token that comes back is compared with the
// one that must come.
type refresher struct {
	fleet   *fleet
	forge   *forge
	random  *rand.Rand
	share   int // this client has the families at share, share+clients, ...
	clients int

	now      int // index of the family being refreshed
	secret   [16]byte
	sent     []byte // the whole request
	token    []byte // the part of sent that changes
	expected [tokenLength]byte

	answers int
	samples []string // access tokens, checked afterwards
}

// refreshers shares a fleet out to so many clients of a server.
func refreshers(f *fleet, address string, clients int) []caller {
	list := make([]caller, clients)
	for n := range list {
		r := &refresher{fleet: f, forge: newForge(f.root), share: n, clients: clients, random: rand.New(rand.NewPCG(rand.Uint64(), uint64(n)))}
		body := fmt.Sprintf(`{"refresh_token":"%*s"}`, tokenLength, "")
		r.sent = post(address, "/v1/refresh", body)
		at := bytes.LastIndexByte(r.sent, ':') + 2
		r.token = r.sent[at : at+tokenLength]
		list[n] = r
	}
	return list
}

func post(address, path, body string) []byte {
	return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, address, userAgent, len(body), body)
}

// request implements caller.
func (r *refresher) request() []byte {
	own := (len(r.fleet.ids) - r.share + r.clients - 1) / r.clients
	r.now = r.share + r.random.IntN(own)*r.clients
	r.secret = r.fleet.secretOf(r.now)
	r.forge.spell(r.token, r.fleet.ids[r.now], r.secret, r.fleet.generations[r.now])
	return r.sent
}

var (
	accessMember  = []byte(`"access_token":"`)
	refreshMember = []byte(`"refresh_token":"`)
)

// sampleEvery and mostSamples say how many access tokens are kept.
const (
	sampleEvery = 500
	mostSamples = 100
)

// answered implements caller.
func (r *refresher) answered(status int, body []byte) error {
	generation := r.fleet.generations[r.now]
	if status != 200 {
		return fmt.Errorf("refresh of family %x at generation %d: %d %.500s", r.fleet.ids[r.now], generation, status, body)
	}
	r.fleet.generations[r.now]++
	r.forge.spell(r.expected[:], r.fleet.ids[r.now], r.secret, generation+1)
	if got := member(body, refreshMember); !bytes.Equal(got, r.expected[:]) {
		return fmt.Errorf("refresh of family %x at generation %d: want the token of generation %d, got %.20q...", r.fleet.ids[r.now], generation, generation+1, got)
	}
	if r.answers++; r.answers%sampleEvery == 1 && len(r.samples) < mostSamples {
		r.samples = append(r.samples, string(member(body, accessMember)))
	}
	return nil
}

// member finds a string member without escapes in a JSON object.
func member(body, name []byte) []byte {
	_, rest, _ := bytes.Cut(body, name)
	value, _, _ := bytes.Cut(rest, []byte{'"'})
	return value
}

// verifySamples checks the kept access tokens against the published key set,
// with the package that services use. It returns how many there were.
func verifySamples(ctx context.Context, s *authserver, callers []caller) (int, error) {
	jwks, err := fetch(ctx, "http://"+s.public+"/.well-known/jwks.json")
	if err != nil {
		return 0, err
	}
	set, err := verify.StaticKeys(jwks)
	if err != nil {
		return 0, err
	}
	v, err := verify.New(verify.Config{Issuer: issuer, Audience: issuer, Keys: set, Algorithms: []string{"ES256"}})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, c := range callers {
		r, ok := c.(*refresher)
		if !ok {
			continue
		}
		for _, token := range r.samples {
			if _, err := v.Verify(ctx, token); err != nil {
				return n, fmt.Errorf("an access token that came back does not verify: %w", err)
			}
			n++
		}
	}
	if n == 0 {
		return 0, fmt.Errorf("none of the answers was kept to be checked")
	}
	return n, nil
}
