package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/app"
	"example.com/authserver/internal/fault"
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
	HeldBy      *int   `json:"held_by,omitempty"` // verifiers; of keys in the key set
	MasterKey   string `json:"master_key,omitempty"`
}

type statusView struct {
	At       string            `json:"at"`
	Revision int64             `json:"revision"`
	Default  string            `json:"default_algorithm"`
	Keys     []keyView         `json:"keys"`
	Waiting  map[string]string `json:"waiting,omitempty"` // algorithm: signs from
	Evidence *evidenceView     `json:"verifiers,omitempty"`
}

func viewStatus(s keys.Status, held keys.Evidence, all bool) statusView {
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
		if n := held.Held[l.KID]; l.InJWKS {
			k.HeldBy = &n
		}
		v.Keys = append(v.Keys, k)
	}
	for _, w := range s.Waiting {
		v.Waiting[string(w.Algorithm)] = instant(w.Until)
	}
	return v
}

func (e *environment) printStatus(s keys.Status, evidence keys.Evidence, all bool) error {
	v := viewStatus(s, evidence, all)
	if !all {
		v.Evidence = viewEvidence(evidence)
	}
	return e.print(v, func() [][]string {
		rows := [][]string{{"PURPOSE", "ALGORITHM", "NO", "STATE", "SINCE", "UNTIL", "JWKS", "HELD BY", "KID"}}
		for _, k := range v.Keys {
			listed, held := "no", ""
			if k.InJWKS {
				listed, held = "yes", fmt.Sprintf("%d/%d", *k.HeldBy, evidence.Newest+evidence.Older)
			}
			rows = append(rows, []string{k.Purpose, k.Algorithm, fmt.Sprint(k.Number), k.State, k.Since, k.Until, listed, held, k.KID})
		}
		for _, alg := range slices.Sorted(maps.Keys(v.Waiting)) {
			says := "signs from " + v.Waiting[alg]
			if v.Waiting[alg] == "" {
				says = "its key is about to be published"
			}
			if v.Default != "" {
				says += "; until then " + v.Default + " does"
			}
			rows = append(rows, []string{fmt.Sprintf("%s is configured, %s", alg, says)})
		}
		if v.Evidence != nil {
			rows = append(rows, evidenceRows(s, evidence)...)
		}
		return rows
	})
}

// vault opens the installation and the keys in it.
func (e *environment) vault(use app.Use) (admin.Vault, *app.Installation, error) {
	in, err := e.open(use)
	if err != nil {
		return admin.Vault{}, nil, err
	}
	return in.Vault(), in, nil
}

func (e *environment) by() keys.By { return keys.By{Actor: e.actor(), RequestID: e.requestID()} }

type keysStatus struct{}

func (c *keysStatus) Run(e *environment) error { return e.keyTable(false) }

type keysList struct{}

func (c *keysList) Run(e *environment) error { return e.keyTable(true) }

// keyTable prints the timetable; of the keys in use it also tells who holds
// them.
func (e *environment) keyTable(all bool) error {
	vault, in, err := e.vault(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	status, evidence, err := vault.Look(e.ctx)
	if err != nil {
		return err
	}
	return e.printStatus(status, evidence, all)
}

type keysRotate struct {
	Algorithm *string   `arg:"" optional:"" help:"Only this algorithm; all configured ones without it."`
	At        time.Time `help:"Not before this instant (RFC 3339)."`
	Cancel    bool      `help:"Take back a rotation that has not happened yet."`
	Back      bool      `help:"Let the previous key sign again, while it is still published."`
	Refresh   bool      `help:"Rotate the refresh root key instead of the signing keys."`
}

func (c *keysRotate) Run(e *environment) error {
	alg, err := c.check()
	if err != nil {
		return usageError(err)
	}
	vault, in, err := e.vault(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	done, err := c.rotate(e, vault, alg)
	if err != nil {
		return err
	}
	rotated, verifiers, err := vault.Rotated(e.ctx, done)
	if err != nil {
		return err
	}
	for _, r := range rotated {
		if !c.At.IsZero() && r.From.After(c.At) {
			e.say("%s signs from %s and not from %s: verifiers must hold its key before", r.Algorithm, instant(r.From), instant(c.At))
		}
	}
	if verifiers > 0 && !c.Refresh {
		for _, r := range rotated {
			e.say("%d of %d verifiers hold %s; who they are: authserver keys status", r.HeldBy, verifiers, r.KID)
		}
	}
	return e.printRotated(rotated)
}

// check returns the algorithm that is meant, "" for all of them.
func (c *keysRotate) check() (keys.Algorithm, error) {
	if (c.Cancel || c.Back) && !c.At.IsZero() {
		return "", errors.New("--at goes with neither --cancel nor --back: both act at once")
	}
	if c.Cancel && c.Back || c.Refresh && (c.Cancel || c.Back || c.Algorithm != nil || !c.At.IsZero()) {
		return "", errors.New("--cancel, --back and --refresh exclude each other; --refresh takes nothing else")
	}
	if c.Algorithm == nil {
		return "", nil
	}
	return keys.ParseAlgorithm(*c.Algorithm)
}

func (c *keysRotate) rotate(e *environment, vault admin.Vault, alg keys.Algorithm) ([]keys.Rotation, error) {
	switch {
	case c.Refresh:
		one, err := vault.RotateRefresh(e.ctx, e.by())
		return []keys.Rotation{one}, err
	case c.Cancel:
		return vault.CancelRotation(e.ctx, e.by(), alg)
	case c.Back:
		return vault.Back(e.ctx, e.by(), alg)
	default:
		return vault.Rotate(e.ctx, e.by(), alg, c.At)
	}
}

func (e *environment) printRotated(rotated []admin.Rotated) error {
	type view struct {
		Algorithm string `json:"algorithm"`
		Number    int    `json:"number"`
		KID       string `json:"kid,omitempty"`
		SignsFrom string `json:"signs_from"`
		Published bool   `json:"published_now"`
		HeldBy    int    `json:"held_by"`
	}
	views := make([]view, len(rotated))
	for i, r := range rotated {
		views[i] = view{string(r.Algorithm), r.Number, r.KID, instant(r.From), r.Published, r.HeldBy}
	}
	return e.print(views, func() [][]string {
		rows := [][]string{{"ALGORITHM", "NO", "SIGNS FROM", "KID"}}
		for _, v := range views {
			rows = append(rows, []string{v.Algorithm, fmt.Sprint(v.Number), v.SignsFrom, v.KID})
		}
		return rows
	})
}

type keysExport struct {
	KID    *string `arg:"" optional:"" help:"One key of the key set; all of them without it."`
	Format string  `enum:"jwks,pem,x509" default:"jwks" help:"jwks, pem or x509."`
}

func (c *keysExport) Run(e *environment) error {
	vault, in, err := e.vault(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	kid := ""
	if c.KID != nil {
		if kid = *c.KID; kid == "" {
			return usageError(errors.New("the KID is empty; want one as keys list shows it, or none for all keys"))
		}
	}
	out, err := vault.Export(e.ctx, kid, keys.Format(c.Format))
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
	vault, in, err := e.vault(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	n, err := vault.Rewrap(e.ctx, e.by())
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
	vault, in, err := e.vault(app.ToRescue)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	if err := e.confirm("Every signing key is given up and every session ends. Users stay. The issuer is "+e.config.Issuer+".", e.config.Issuer, ""); err != nil {
		in.Forsake(e.ctx) // else the next start would take the key that was made for this
		return err
	}
	reset, err := vault.ResetMasterKeyLost(e.ctx, e.by())
	if fault.Is(err, fault.Conflict) {
		in.Forsake(e.ctx) // nothing is sealed under it
	}
	if err != nil {
		return err
	}
	ended, err := e.endUnderRoots(vault, reset.EndFamilies, reset.Settled)
	if err != nil {
		return done(fmt.Sprintf("%d keys ARE given up", len(reset.Revoked)), err, serversEnd)
	}
	return e.print(map[string]any{"revoked": reset.Revoked, "sessions_ended": ended}, func() [][]string {
		return [][]string{{fmt.Sprintf("%d keys given up, %d sessions ended; new keys sign from now on", len(reset.Revoked), ended)}}
	})
}
