package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/app"
	"example.com/authserver/internal/keys"
)

type keysRevoke struct {
	KID              string `arg:"" help:"The key, as keys list shows it; refresh-N for a refresh root key."`
	CompromisedStore bool   `help:"The database was read by somebody: do not trust the standby either."`
	DryRun           bool   `help:"Only say what it would break."`
	Yes              bool   `help:"Do not ask."`
}

func (c *keysRevoke) Run(e *environment) error {
	vault, in, err := e.vault(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	radius, err := vault.Foretell(e.ctx, c.KID, c.CompromisedStore)
	if err != nil {
		return err
	}
	e.foretell(radius)
	if c.DryRun {
		return e.printRadius(radius, 0, true)
	}
	if !c.Yes {
		if err := e.confirm("This cannot be undone.", "revoke", sayYes); err != nil {
			return err
		}
	}
	if radius.Blast, err = vault.Revoke(e.ctx, e.by(), c.KID, c.CompromisedStore); err != nil {
		return err
	}
	ended, err := e.endUnderRoots(vault, radius.EndFamilies, radius.Settled)
	if err != nil {
		return done(radius.KID+" IS revoked", err, serversEnd)
	}
	return e.printRadius(radius, ended, false)
}

// foretell says on standard error what a revocation will break.
func (e *environment) foretell(r admin.Radius) {
	e.say("key %s (%s %d) is %s", r.KID, r.Algorithm, r.Number, r.State)
	if !r.TokensUntil.IsZero() {
		e.say("  tokens it signed are refused by verifiers that fetch the new set; the last of them would have expired at %s", instant(r.TokensUntil))
		e.say("  %d living sessions refresh once and carry on; nobody logs in again", r.Living)
	}
	if r.CachesFor > 0 {
		e.say("  caches may go on accepting forged tokens for %s, and for %s where they cannot reach this server", r.CachesFor, r.CachesForAtWorst)
		e.say("  %d verifiers fetched a set with this key in it", r.Holders)
	}
	for _, number := range slices.Sorted(maps.Keys(r.Ending)) {
		e.say("  refresh root key %d: %d sessions end", number, r.Ending[number])
	}
	switch {
	case r.Successor != "" && r.SuccessorHeld:
		e.say("  then %s signs, published for its whole lead, since %s", r.Successor, instant(r.SuccessorSince))
	case r.Successor != "":
		e.say("  then %s signs, published only at %s", r.Successor, instant(r.SuccessorSince))
	}
	if r.Successor != "" && r.Purpose == keys.Sign {
		e.say("  %d of these verifiers hold it", r.SuccessorHolders)
	}
	for _, kid := range r.Discards {
		e.say("  %s is discarded, too", kid)
	}
	for _, w := range r.Warnings {
		e.say("  warning: %s", w)
	}
}

func (e *environment) printRadius(b admin.Radius, ended int, dry bool) error {
	v := map[string]any{
		"kid": b.KID, "purpose": b.Purpose, "algorithm": b.Algorithm, "number": b.Number, "state_before": b.State,
		"tokens_until": instant(b.TokensUntil), "caches_for_seconds": int(b.CachesFor.Seconds()),
		"caches_for_at_worst_seconds": int(b.CachesForAtWorst.Seconds()), "successor": b.Successor,
		"successor_since": instant(b.SuccessorSince), "discards": slices.Concat([]string{}, b.Discards),
		"sessions_living": b.Living, "sessions_ending": total(b.Ending), "sessions_ended": ended,
		"held_by": b.Holders, "successor_held_by": b.SuccessorHolders, "warnings": b.Warnings, "dry_run": dry,
	}
	return e.print(v, func() [][]string {
		switch {
		case dry:
			return [][]string{{"dry run: nothing was done"}}
		case b.Successor == "":
			return [][]string{{fmt.Sprintf("%s is revoked; sessions ended: %d", b.KID, ended)}}
		default:
			return [][]string{{fmt.Sprintf("%s is revoked, %s signs; sessions ended: %d", b.KID, b.Successor, ended)}}
		}
	})
}

func total(by map[int]int) (n int) {
	for _, one := range by {
		n += one
	}
	return n
}

// done tells of an act that was committed before what comes after it failed, or was
// interrupted.
func done(what string, err error, hint string) error {
	code, _ := classify(err)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	return fail(code, fmt.Errorf("%s; then: %w", what, err), hint)
}

// serversEnd is the hint of what servers complete.
const serversEnd = "a server that runs ends the sessions that are left of it, within minutes"

// endUnderRoots ends the families whose head is under a root key that was
// given up: at once, and again when no node can have made one since. A run that
// dies in between is completed by the server.
func (e *environment) endUnderRoots(v admin.Vault, numbers []int, settled time.Time) (int, error) {
	if len(numbers) == 0 {
		return 0, nil
	}
	ended, err := v.EndUnderRoots(e.ctx, numbers, e.actor())
	if err != nil {
		return ended, err
	}
	if wait := time.Until(settled); wait > 0 {
		e.say("waiting %s until every node knows", wait.Round(time.Second))
		select {
		case <-time.After(wait):
		case <-e.ctx.Done():
			return ended, e.ctx.Err()
		}
	}
	later, err := v.EndUnderRoots(e.ctx, numbers, e.actor())
	return ended + later, err
}
