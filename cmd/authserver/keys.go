package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/keys"
)

type keysCmd struct {
	Status keysStatus `cmd:"" help:"The timetable: every key in use, since when and until when."`
	List   keysList   `cmd:"" help:"List every key, gone and revoked ones too."`
	Rotate keysRotate `cmd:"" help:"Let the standby sign as soon as its lead allows, and say when."`
	Revoke keysRevoke `cmd:"" help:"Emergency: take a key out of the key set at once. First says what that breaks."`
	Export keysExport `cmd:"" help:"Write public keys for gateways that cannot fetch them."`
	Rewrap keysRewrap `cmd:"" help:"Seal every key under the present master key, so that former ones can be dropped."`
	Reset  keysReset  `cmd:"" help:"When the master key is lost: give up all keys and sessions, keep the users."`
}

// keyView is a key as the command line prints it.
type keyView struct {
	Purpose     string `json:"purpose"`
	Algorithm   string `json:"algorithm"`
	Number      int    `json:"number"`
	KID         string `json:"kid"`
	State       string `json:"state"`
	Since       string `json:"since,omitempty"`
	Until       string `json:"until,omitempty"`
	PublishedAt string `json:"published_at"`
	InJWKS      bool   `json:"in_jwks"`
	MasterKey   string `json:"master_key,omitempty"`
}

type statusView struct {
	At       string            `json:"at"`
	Revision int64             `json:"revision"`
	Default  string            `json:"default_algorithm"`
	Keys     []keyView         `json:"keys"`
	Waiting  map[string]string `json:"waiting,omitempty"` // algorithm: signs from
}

func viewStatus(s keys.Status, all bool) statusView {
	v := statusView{At: instant(s.At), Revision: s.Revision, Default: string(s.Default), Keys: []keyView{}, Waiting: map[string]string{}}
	for _, l := range s.Keys {
		if !all && (l.State == keys.Gone || l.State == keys.Revoked) {
			continue
		}
		k := keyView{
			Purpose: string(l.Purpose), Algorithm: string(l.Algorithm), Number: l.Number, KID: l.KID, State: string(l.State),
			Since: instant(l.Since), Until: instant(l.Until), PublishedAt: instant(l.PublishedAt), InJWKS: l.InJWKS,
		}
		if !l.MasterID.IsZero() {
			k.MasterKey = l.MasterID.String()
		}
		v.Keys = append(v.Keys, k)
	}
	for _, w := range s.Waiting {
		v.Waiting[string(w.Algorithm)] = instant(w.Until)
	}
	return v
}

func (e *environment) printStatus(s keys.Status, all bool) error {
	v := viewStatus(s, all)
	return e.print(v, func() [][]string {
		rows := [][]string{{"PURPOSE", "ALGORITHM", "NO", "STATE", "SINCE", "UNTIL", "JWKS", "KID"}}
		for _, k := range v.Keys {
			listed := "no"
			if k.InJWKS {
				listed = "yes"
			}
			rows = append(rows, []string{k.Purpose, k.Algorithm, fmt.Sprint(k.Number), k.State, k.Since, k.Until, listed, k.KID})
		}
		for alg, from := range v.Waiting {
			if from == "" {
				from = "its key is not published yet"
			}
			rows = append(rows, []string{fmt.Sprintf("%s is configured and signs from %s; until then %s does", alg, from, v.Default)})
		}
		return rows
	})
}

// custodian opens the installation and the room of keys over it.
func (e *environment) custodian(use app.Use) (*keys.Custodian, *app.Installation, error) {
	in, err := e.open(use)
	if err != nil {
		return nil, nil, err
	}
	return keys.NewCustodian(in.Engine.Keys(), in.Masters, e.config.Keys(), time.Now), in, nil
}

func (e *environment) by() keys.By { return keys.By{Actor: e.actor(), RequestID: e.requestID()} }

type keysStatus struct{}

func (c *keysStatus) Run(e *environment) error { return e.keyTable(false) }

type keysList struct{}

func (c *keysList) Run(e *environment) error { return e.keyTable(true) }

func (e *environment) keyTable(all bool) error {
	custodian, in, err := e.custodian(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	status, err := custodian.Status(e.ctx)
	if err != nil {
		return err
	}
	return e.printStatus(status, all)
}

type keysRotate struct {
	Algorithm string    `arg:"" optional:"" help:"Only this algorithm; all configured ones without it."`
	At        time.Time `help:"Not before this instant (RFC 3339)."`
	Cancel    bool      `help:"Take back a rotation that has not happened yet."`
	Back      bool      `help:"Let the previous key sign again, while it is still published."`
	Refresh   bool      `help:"Rotate the refresh root key instead of the signing keys."`
}

func (c *keysRotate) Run(e *environment) error {
	if c.Cancel && c.Back || c.Refresh && (c.Cancel || c.Back || c.Algorithm != "" || !c.At.IsZero()) {
		return usageError(errors.New("--cancel, --back and --refresh exclude each other; --refresh takes nothing else"))
	}
	alg := keys.Algorithm("")
	if c.Algorithm != "" {
		var err error
		if alg, err = keys.ParseAlgorithm(c.Algorithm); err != nil {
			return usageError(err)
		}
	}
	custodian, in, err := e.custodian(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	var done []keys.Rotation
	switch {
	case c.Refresh:
		var one keys.Rotation
		one, err = custodian.RotateRefresh(e.ctx, e.by())
		done = []keys.Rotation{one}
	case c.Cancel:
		done, err = custodian.CancelRotation(e.ctx, e.by(), alg)
	case c.Back:
		done, err = custodian.Back(e.ctx, e.by(), alg)
	default:
		done, err = custodian.Rotate(e.ctx, e.by(), alg, c.At)
	}
	if err != nil {
		return err
	}
	type view struct {
		Algorithm string `json:"algorithm"`
		Number    int    `json:"number"`
		KID       string `json:"kid,omitempty"`
		SignsFrom string `json:"signs_from"`
		Published bool   `json:"published_now"`
	}
	views := make([]view, len(done))
	status, err := custodian.Status(e.ctx)
	if err != nil {
		return err
	}
	for i, r := range done {
		for _, k := range status.Keys { // one that was made just now has its kid there
			if r.KID == "" && k.Algorithm == r.Algorithm && k.Number == r.Number {
				r.KID = k.KID
			}
		}
		views[i] = view{string(r.Algorithm), r.Number, r.KID, instant(r.From), r.Published}
	}
	return e.print(views, func() [][]string {
		rows := [][]string{{"ALGORITHM", "NO", "SIGNS FROM", "KID"}}
		for _, v := range views {
			rows = append(rows, []string{v.Algorithm, fmt.Sprint(v.Number), v.SignsFrom, v.KID})
		}
		return rows
	})
}

type keysRevoke struct {
	KID              string `arg:"" help:"The key, as keys list shows it; refresh-N for a refresh root key."`
	CompromisedStore bool   `help:"The database was read by somebody: do not trust the standby either."`
	DryRun           bool   `help:"Only say what it would break."`
	Yes              bool   `help:"Do not ask."`
}

func (c *keysRevoke) Run(e *environment) error {
	custodian, in, err := e.custodian(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	blast, err := custodian.Blast(e.ctx, c.KID, c.CompromisedStore)
	if err != nil {
		return err
	}
	if err := e.foretell(in, blast); err != nil {
		return err
	}
	if c.DryRun {
		return e.printBlast(blast, 0, true)
	}
	if !c.Yes {
		if err := e.confirm("This cannot be undone.", "revoke"); err != nil {
			return err
		}
	}
	if blast, err = custodian.Revoke(e.ctx, e.by(), c.KID, c.CompromisedStore); err != nil {
		return err
	}
	ended, err := e.endUnderRoots(in, blast.EndFamilies, blast.Settled)
	if err != nil {
		return err
	}
	return e.printBlast(blast, ended, false)
}

// foretell says on standard error what a revocation will break.
func (e *environment) foretell(in *app.Installation, b keys.Blast) error {
	e.say("key %s (%s %d) is %s", b.KID, b.Algorithm, b.Number, b.State)
	if !b.TokensUntil.IsZero() {
		e.say("  tokens it signed are refused by verifiers that fetch the new set; the last of them would have expired at %s", instant(b.TokensUntil))
		living, err := in.Engine.Sessions().CountLiving(e.ctx, e.config.Refresh(""))
		if err != nil {
			return err
		}
		e.say("  %d living sessions refresh once and carry on; nobody logs in again", living)
	}
	if b.CachesFor > 0 {
		e.say("  caches may go on accepting forged tokens for %s, and for %s where they cannot reach this server", b.CachesFor, b.CachesForAtWorst)
	}
	for _, number := range b.EndFamilies {
		n, err := in.Engine.Sessions().CountUnderRoot(e.ctx, uint8(number))
		if err != nil {
			return err
		}
		e.say("  refresh root key %d: %d sessions end", number, n)
	}
	switch {
	case b.Successor != "" && b.SuccessorHeld:
		e.say("  then %s signs, which verifiers hold already (published %s)", b.Successor, instant(b.SuccessorSince))
	case b.Successor != "":
		e.say("  then %s signs, published only at %s", b.Successor, instant(b.SuccessorSince))
	}
	for _, kid := range b.Discards {
		e.say("  %s is discarded, too", kid)
	}
	for _, w := range b.Warnings {
		e.say("  warning: %s", w)
	}
	return nil
}

func (e *environment) printBlast(b keys.Blast, ended int, dry bool) error {
	v := map[string]any{
		"kid": b.KID, "algorithm": b.Algorithm, "number": b.Number, "state_before": b.State,
		"tokens_until": instant(b.TokensUntil), "caches_for_seconds": int(b.CachesFor.Seconds()),
		"caches_for_at_worst_seconds": int(b.CachesForAtWorst.Seconds()), "successor": b.Successor,
		"discards": b.Discards, "sessions_ended": ended, "warnings": b.Warnings, "dry_run": dry,
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

// endUnderRoots ends the families whose head is under a root key that was
// given up: at once, and again when no node can have made one since.
func (e *environment) endUnderRoots(in *app.Installation, numbers []int, settled time.Time) (int, error) {
	if len(numbers) == 0 {
		return 0, nil
	}
	total := 0
	sweep := func() error {
		for _, number := range numbers {
			for {
				n, err := in.Engine.Sessions().EndUnderRoot(e.ctx, uint8(number), floorBatch, e.actor())
				if err != nil {
					return err
				}
				if total += n; n == 0 {
					break
				}
			}
		}
		return nil
	}
	if err := sweep(); err != nil {
		return total, err
	}
	if wait := time.Until(settled); wait > 0 {
		e.say("waiting %s until every node knows", wait.Round(time.Second))
		select {
		case <-time.After(wait):
		case <-e.ctx.Done():
			return total, e.ctx.Err()
		}
	}
	return total, sweep()
}

type keysExport struct {
	KID    string `arg:"" optional:"" help:"One key of the key set; all of them without it."`
	Format string `enum:"jwks,pem,x509" default:"jwks" help:"jwks, pem or x509."`
}

func (c *keysExport) Run(e *environment) error {
	custodian, in, err := e.custodian(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	out, err := custodian.Export(e.ctx, c.KID, keys.Format(c.Format))
	if err != nil {
		return err
	}
	if text := strings.TrimRight(string(out), "\n"); !e.json || c.Format == string(keys.Set) {
		_, err = fmt.Fprintln(e.stdout, text)
		return err
	}
	return e.print(map[string]string{"format": c.Format, "text": string(out)}, nil)
}

type keysRewrap struct{}

func (c *keysRewrap) Run(e *environment) error {
	custodian, in, err := e.custodian(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	n, err := custodian.Rewrap(e.ctx, e.by())
	if err != nil {
		return err
	}
	id := keys.IDOf(in.Masters.Current).String()
	return e.print(map[string]any{"rewrapped": n, "master_key": id}, func() [][]string {
		return [][]string{{fmt.Sprintf("%d keys are now sealed under master key %s", n, id)}}
	})
}

type keysReset struct {
	MasterKeyLost bool `help:"Say that the master key is lost for good." required:""`
}

func (c *keysReset) Run(e *environment) error {
	custodian, in, err := e.custodian(app.ToRescue)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	if err := e.confirm("Every signing key is given up and every session ends. Users stay. The issuer is "+e.config.Issuer+".", e.config.Issuer); err != nil {
		return err
	}
	reset, err := custodian.ResetMasterKeyLost(e.ctx, e.by())
	if err != nil {
		return err
	}
	ended, err := e.endUnderRoots(in, reset.EndFamilies, reset.Settled)
	if err != nil {
		return err
	}
	return e.print(map[string]any{"revoked": reset.Revoked, "sessions_ended": ended}, func() [][]string {
		return [][]string{{fmt.Sprintf("%d keys given up, %d sessions ended; new keys sign from now on", len(reset.Revoked), ended)}}
	})
}
