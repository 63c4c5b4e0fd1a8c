// Package admin owns what an operator does that takes more than one room:
// looking at keys together with who holds them, and revoking a key together
// with the sessions that hang on it. The command line and the admin API call
// it alike. It does not own the rules of the rooms it calls, nor who may ask.
package admin

import (
	"context"
	"slices"
	"time"

	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
)

// Vault is the keys of an installation with all that hangs on them. It is safe
// for concurrent use.
type Vault struct {
	*keys.Custodian
	Verifiers keys.VerifierStore
	Sessions  session.Store
	Policy    keys.Policy
	Refresh   refresh.Policy // by which sessions are counted as living
}

// Look returns the timetable and who holds which key set.
func (v Vault) Look(ctx context.Context) (keys.Status, keys.Evidence, error) {
	status, err := v.Status(ctx)
	if err != nil {
		return status, keys.Evidence{}, err
	}
	list, err := v.Verifiers.Verifiers(ctx, keys.MostVerifiers)
	if err != nil {
		return status, keys.Evidence{}, err
	}
	return status, keys.Weigh(status, list, v.Policy), nil
}

// Rotated is a rotation that was carried out and what verifiers know of its key.
type Rotated struct {
	keys.Rotation // with the kid also of a key that was made just now
	// HeldBy is how many verifiers fetched a set with the key in it, as far as
	// they are told apart.
	HeldBy int
}

// Rotated looks up the keys of rotations that were just carried out. It also
// returns how many verifiers are told apart.
func (v Vault) Rotated(ctx context.Context, done []keys.Rotation) ([]Rotated, int, error) {
	status, held, err := v.Look(ctx)
	if err != nil {
		return nil, 0, err
	}
	list := make([]Rotated, len(done))
	for i, r := range done {
		if at := slices.IndexFunc(status.Keys, func(l keys.Line) bool {
			return l.Algorithm == r.Algorithm && l.Number == r.Number
		}); r.KID == "" && at >= 0 {
			r.KID = status.Keys[at].KID
		}
		list[i] = Rotated{r, held.Held[r.KID]}
	}
	return list, held.Newest + held.Older, nil
}

// Radius is everything that the revocation of a key touches.
type Radius struct {
	keys.Blast
	// Living is how many sessions refresh once and carry on; 0 for a key that
	// signed nothing that still lives.
	Living int
	// Ending is how many sessions end, by the number of their root key.
	Ending map[int]int
	// Holders is how many verifiers fetched a set with the key in it, as far as
	// they are told apart, and SuccessorHolders how many one with its successor.
	Holders, SuccessorHolders int
}

// Foretell tells what Revoke would do. It changes nothing.
func (v Vault) Foretell(ctx context.Context, kid string, compromisedStore bool) (Radius, error) {
	blast, err := v.Blast(ctx, kid, compromisedStore)
	if err != nil {
		return Radius{}, err
	}
	r := Radius{Blast: blast, Ending: map[int]int{}}
	if !blast.TokensUntil.IsZero() {
		if r.Living, err = v.Sessions.CountLiving(ctx, v.Refresh); err != nil {
			return Radius{}, err
		}
	}
	for _, number := range blast.EndFamilies {
		if r.Ending[number], err = v.Sessions.CountUnderRoot(ctx, uint8(number)); err != nil {
			return Radius{}, err
		}
	}
	_, evidence, err := v.Look(ctx)
	if err != nil {
		return Radius{}, err
	}
	r.Holders, r.SuccessorHolders = evidence.Held[kid], evidence.Held[blast.Successor]
	return r, nil
}

// endBatch is how many families are ended in one transaction.
const endBatch = 500

// EndUnderRoots ends the families whose head is under a root key that was given
// up, and returns how many it ended. Until Blast.Settled a node may still make
// one with a ring from before: it has to be called again after that.
func (v Vault) EndUnderRoots(ctx context.Context, numbers []int, actor string) (ended int, err error) {
	for _, number := range numbers {
		for {
			n, err := v.Sessions.EndUnderRoot(ctx, uint8(number), endBatch, actor)
			if err != nil {
				return ended, err
			}
			if n == 0 {
				break
			}
			ended += n
		}
	}
	return ended, nil
}

// rootsFor is how long after its revocation families under a root key are
// looked for: long after the last one could be made.
const rootsFor = time.Hour

// FinishRoots ends what revocations of root keys left behind: what a node wrote
// with a ring from before, and what a process that died half-way did not reach.
func (v Vault) FinishRoots(ctx context.Context, actor string) (ended int, err error) {
	status, err := v.Status(ctx)
	if err != nil {
		return 0, err
	}
	var numbers []int
	for _, k := range status.Keys {
		if k.Purpose == keys.Refresh && k.State == keys.Revoked && status.At.Sub(k.Since).Abs() < rootsFor {
			numbers = append(numbers, k.Number)
		}
	}
	return v.EndUnderRoots(ctx, numbers, actor)
}
