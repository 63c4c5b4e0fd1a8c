package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/token"
)

// mintFor is the CPU time for which tokens of one algorithm are minted.
const mintFor = time.Second

// measureMint makes access tokens with each algorithm, on one goroutine, with
// the server's own minter and a key ring that it founded itself.
func (b *bench) measureMint() error {
	for _, name := range []string{"ES256", "EdDSA", "ES384", "RS256", "PS256", "ML-DSA-44", "ML-DSA-65"} {
		minter, err := b.minter(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		grant := token.Grant{
			User: id.NewUser(), Session: id.NewSession(), Client: firstParty, Scope: scope, Audience: []string{issuer},
			AuthTime: time.Now(), AMR: []string{"pwd"}, Until: time.Now().Add(sessionTTL),
		}
		var length, n int
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cpu := cpuOfSelf()
		for cpuOfSelf()-cpu < mintFor {
			minted, err := minter.Mint(grant, time.Now())
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			length = len(minted.Token.Reveal())
			n++
		}
		spent := cpuOfSelf() - cpu
		runtime.ReadMemStats(&after)
		b.report.note("minting an access token, "+name, micros(spent)/float64(n), "us", "CPU, on one goroutine: %.0f/s a core; %d bytes, %d allocations of %d bytes",
			float64(n)/spent.Seconds(), length, (after.Mallocs-before.Mallocs)/uint64(n), (after.TotalAlloc-before.TotalAlloc)/uint64(n))
	}
	return nil
}

// minter founds an installation on SQLite whose tokens are signed with one
// algorithm.
func (b *bench) minter(algorithm string) (*token.Minter, error) {
	c, err := configFor(filepath.Join(b.dir, "mint-"+algorithm), "")
	if err != nil {
		return nil, err
	}
	c.KeyAlgorithms = []string{algorithm}
	in, err := app.Open(b.ctx, c, app.ToFound)
	if err != nil {
		return nil, err
	}
	defer in.Engine.Close()
	ring := keys.NewRing(in.Engine.Keys(), in.Masters, c.Keys(), time.Now, nil)
	return token.NewMinter(ring, c.Tokens()), ring.Start(b.ctx)
}
