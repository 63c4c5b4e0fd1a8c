package adminapi

import (
	"net/http"

	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/keys"
)

func (c call) by() keys.By { return keys.By{Actor: c.actor(), RequestID: c.RequestID} }

// key is one key of the timetable. No material is ever shown.
type key struct {
	Purpose     string        `json:"purpose"`
	Algorithm   string        `json:"algorithm"`
	Number      int           `json:"number"`
	KID         string        `json:"kid"`
	State       string        `json:"state"`
	Since       *wire.Instant `json:"since,omitempty"`
	Until       *wire.Instant `json:"until,omitempty"`
	PublishedAt wire.Instant  `json:"published_at"`
	InJWKS      bool          `json:"in_jwks"`
	HeldBy      *int          `json:"held_by,omitempty"`
	MasterKey   string        `json:"master_key,omitempty"`
}

type waiting struct {
	Algorithm string        `json:"algorithm"`
	SignsFrom *wire.Instant `json:"signs_from,omitempty"`
}

type evidence struct {
	ChangedAt wire.Instant `json:"set_changed_at"`
	Newest    int          `json:"newest"`
	Older     int          `json:"older"`
	Unknown   int          `json:"unknown"`
	List      []verifier   `json:"list"`
}

type verifier struct {
	Holds     string       `json:"holds"`
	Network   string       `json:"network"`
	UserAgent string       `json:"user_agent"`
	ETag      string       `json:"etag"`
	SetAt     wire.Instant `json:"set_changed_at"`
	FirstAt   wire.Instant `json:"first_seen_at"`
	FetchedAt wire.Instant `json:"fetched_at"`
	Due       wire.Instant `json:"may_keep_it_until"`
	Lacks     []string     `json:"lacks"`
	Trusts    []string     `json:"may_trust_revoked"`
}

// verifiersMost bounds one answer; those that lag come first.
const verifiersMost = 1000

// showKeys is GET /admin/v1/keys: the timetable and who holds which key set.
func (d *Door) showKeys(_ call, w http.ResponseWriter, r *http.Request) error {
	status, held, err := d.Vault.Look(r.Context())
	if err != nil {
		return err
	}
	list := []key{}
	for _, l := range status.Keys {
		list = append(list, viewKey(l, held))
	}
	waits := []waiting{}
	for _, one := range status.Waiting {
		waits = append(waits, waiting{string(one.Algorithm), instant(one.Until)})
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		At       wire.Instant `json:"at"`
		Revision int64        `json:"revision"`
		Default  string       `json:"default_algorithm"`
		Keys     []key        `json:"keys"`
		Waiting  []waiting    `json:"waiting"`
		Evidence evidence     `json:"verifiers"`
	}{wire.Instant(status.At), status.Revision, string(status.Default), list, waits, viewEvidence(held)})
}

// showKey is GET /admin/v1/keys/{kid}: one line of the timetable, also of a key
// that is gone or revoked.
func (d *Door) showKey(_ call, w http.ResponseWriter, r *http.Request) error {
	status, held, err := d.Vault.Look(r.Context())
	if err != nil {
		return err
	}
	line, err := status.Key(wire.PathValue(r, "kid"))
	if err != nil {
		return err
	}
	return wire.WriteJSON(w, http.StatusOK, viewKey(line, held))
}

func viewKey(l keys.Line, held keys.Evidence) key {
	k := key{
		Purpose: string(l.Purpose), Algorithm: string(l.Algorithm), Number: l.Number, KID: l.KID, State: string(l.State),
		Since: instant(l.Since), Until: instant(l.Until), PublishedAt: wire.Instant(l.PublishedAt), InJWKS: l.InJWKS,
	}
	if n := held.Held[l.KID]; l.InJWKS {
		k.HeldBy = &n
	}
	if !l.MasterID.IsZero() {
		k.MasterKey = l.MasterID.String()
	}
	return k
}

func viewEvidence(e keys.Evidence) evidence {
	v := evidence{ChangedAt: wire.Instant(e.ChangedAt), Newest: e.Newest, Older: e.Older, Unknown: e.Unknown, List: []verifier{}}
	for _, h := range e.Holders[:min(len(e.Holders), verifiersMost)] {
		v.List = append(v.List, verifier{
			Holds: string(h.Holds), Network: h.Network, UserAgent: h.UserAgent, ETag: h.ETag, SetAt: wire.Instant(h.SetAt),
			FirstAt: wire.Instant(h.FirstAt), FetchedAt: wire.Instant(h.FetchedAt), Due: wire.Instant(h.Due),
			Lacks: orEmpty(h.Lacks), Trusts: orEmpty(h.Trusts),
		})
	}
	return v
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// rotateKeys is POST /admin/v1/keys/rotate.
func (d *Door) rotateKeys(c call, w http.ResponseWriter, r *http.Request) error {
	var algorithm, notBefore, purpose string
	if _, err := wire.ReadMaybe(r,
		wire.Optional(wire.Text("algorithm", &algorithm)),
		wire.Optional(wire.Text("not_before", &notBefore)),
		wire.Optional(wire.OneOf("purpose", &purpose, string(keys.Sign), string(keys.Refresh))),
	); err != nil {
		return err
	}
	at, err := instantOf("not_before", notBefore)
	if err != nil {
		return err
	}
	var done []keys.Rotation
	if keys.Purpose(purpose) == keys.Refresh {
		if algorithm != "" || !at.IsZero() {
			return fault.New(fault.InvalidRequest, "With the purpose refresh there is neither an algorithm nor a date.")
		}
		var one keys.Rotation
		one, err = d.Vault.RotateRefresh(r.Context(), c.by())
		done = []keys.Rotation{one}
	} else {
		done, err = d.Vault.Rotate(r.Context(), c.by(), keys.Algorithm(algorithm), at)
	}
	return d.rotated(c, w, r, done, err)
}

// cancelRotation is POST /admin/v1/keys/cancel.
func (d *Door) cancelRotation(c call, w http.ResponseWriter, r *http.Request) error {
	a, err := algorithmIn(r)
	if err != nil {
		return err
	}
	done, err := d.Vault.CancelRotation(r.Context(), c.by(), a)
	return d.rotated(c, w, r, done, err)
}

// rotateBack is POST /admin/v1/keys/back.
func (d *Door) rotateBack(c call, w http.ResponseWriter, r *http.Request) error {
	a, err := algorithmIn(r)
	if err != nil {
		return err
	}
	done, err := d.Vault.Back(r.Context(), c.by(), a)
	return d.rotated(c, w, r, done, err)
}

func algorithmIn(r *http.Request) (keys.Algorithm, error) {
	var algorithm string
	_, err := wire.ReadMaybe(r, wire.Optional(wire.Text("algorithm", &algorithm)))
	return keys.Algorithm(algorithm), err
}

type rotation struct {
	Algorithm string       `json:"algorithm"`
	Number    int          `json:"number"`
	KID       string       `json:"kid"`
	SignsFrom wire.Instant `json:"signs_from"`
	Published bool         `json:"published_now"`
	HeldBy    int          `json:"held_by"`
}

// rotated answers with what was done and how many verifiers hold those keys.
func (d *Door) rotated(c call, w http.ResponseWriter, r *http.Request, done []keys.Rotation, err error) error {
	if err != nil {
		return err
	}
	c.Outcome = "rotated"
	rotated, verifiers, err := d.Vault.Rotated(r.Context(), done)
	if err != nil {
		return err
	}
	list := []rotation{}
	for _, one := range rotated {
		list = append(list, rotation{string(one.Algorithm), one.Number, one.KID, wire.Instant(one.From), one.Published, one.HeldBy})
	}
	return wire.WriteJSON(w, http.StatusOK, struct {
		Rotations []rotation `json:"rotations"`
		Verifiers int        `json:"verifiers"`
	}{list, verifiers})
}

// revocation is what a revocation breaks, and what it did.
type revocation struct {
	DryRun         bool          `json:"dry_run"`
	KID            string        `json:"kid"`
	Purpose        string        `json:"purpose"`
	Algorithm      string        `json:"algorithm"`
	Number         int           `json:"number"`
	StateBefore    string        `json:"state_before"`
	TokensUntil    *wire.Instant `json:"tokens_until,omitempty"`
	CachesFor      int           `json:"caches_for_seconds"`
	CachesAtWorst  int           `json:"caches_for_at_worst_seconds"`
	HeldBy         int           `json:"held_by"`
	Successor      string        `json:"successor,omitempty"`
	SuccessorSince *wire.Instant `json:"successor_since,omitempty"`
	SuccessorHeld  int           `json:"successor_held_by"`
	Discards       []string      `json:"discards"`
	Living         int           `json:"sessions_living"`
	Ending         int           `json:"sessions_ending"`
	Ended          int           `json:"sessions_ended"`
	SettledAt      *wire.Instant `json:"settled_at,omitempty"`
	Warnings       []string      `json:"warnings"`
}

// revokeKey is POST /admin/v1/keys/{kid}/revoke. With dry_run it only tells. Of
// a root key the sessions end at once; what other nodes still make until
// settled_at is ended by the server's housekeeping.
func (d *Door) revokeKey(c call, w http.ResponseWriter, r *http.Request) error {
	var dry, compromised bool
	if _, err := wire.ReadMaybe(r,
		wire.Optional(wire.Bool("dry_run", &dry)), wire.Optional(wire.Bool("compromised_store", &compromised)),
	); err != nil {
		return err
	}
	kid := wire.PathValue(r, "kid")
	radius, err := d.Vault.Foretell(r.Context(), kid, compromised)
	if err != nil {
		return err
	}
	gone := 0
	if !dry {
		if radius.Blast, err = d.Vault.Revoke(r.Context(), c.by(), kid, compromised); err != nil {
			return err
		}
		c.Outcome = "revoked"
		if gone, err = d.Vault.EndUnderRoots(r.Context(), radius.EndFamilies, c.actor()); err != nil {
			return err
		}
	}
	return wire.WriteJSON(w, http.StatusOK, viewRadius(radius, gone, dry))
}

func viewRadius(x admin.Radius, gone int, dry bool) revocation {
	v := revocation{
		DryRun: dry, KID: x.KID, Purpose: string(x.Purpose), Algorithm: string(x.Algorithm), Number: x.Number, StateBefore: string(x.State),
		TokensUntil: instant(x.TokensUntil), CachesFor: int(x.CachesFor.Seconds()), CachesAtWorst: int(x.CachesForAtWorst.Seconds()),
		HeldBy: x.Holders, Successor: x.Successor, SuccessorSince: instant(x.SuccessorSince), SuccessorHeld: x.SuccessorHolders,
		Discards: orEmpty(x.Discards), Living: x.Living, Ended: gone, SettledAt: instant(x.Settled), Warnings: orEmpty(x.Warnings),
	}
	for _, n := range x.Ending {
		v.Ending += n
	}
	return v
}
