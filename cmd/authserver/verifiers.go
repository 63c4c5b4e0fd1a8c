package main

import (
	"fmt"
	"slices"
	"strings"

	"example.com/authserver/internal/keys"
)

// evidenceView says who holds which key set.
type evidenceView struct {
	ChangedAt string         `json:"set_changed_at"`
	Newest    int            `json:"newest"`
	Older     int            `json:"older"`
	Unknown   int            `json:"unknown"`
	List      []verifierView `json:"list"`
}

type verifierView struct {
	Holds     string   `json:"holds"`
	Network   string   `json:"network"`
	UserAgent string   `json:"user_agent"`
	ETag      string   `json:"etag"`
	SetAt     string   `json:"set_changed_at"`
	FirstAt   string   `json:"first_seen_at"`
	FetchedAt string   `json:"fetched_at"`
	Due       string   `json:"may_keep_it_until"`
	Lacks     []string `json:"lacks,omitempty"`
	Trusts    []string `json:"may_trust_revoked,omitempty"`
}

func viewEvidence(e keys.Evidence) *evidenceView {
	v := &evidenceView{ChangedAt: instant(e.ChangedAt), Newest: e.Newest, Older: e.Older, Unknown: e.Unknown, List: []verifierView{}}
	for _, h := range e.Holders {
		v.List = append(v.List, verifierView{
			Holds: string(h.Holds), Network: h.Network, UserAgent: h.UserAgent, ETag: h.ETag, SetAt: instant(h.SetAt),
			FirstAt: instant(h.FirstAt), FetchedAt: instant(h.FetchedAt), Due: instant(h.Due), Lacks: h.Lacks, Trusts: h.Trusts,
		})
	}
	return v
}

// mostShown bounds the table; --json has all of them.
const mostShown = 40

// evidenceRows are the second table of keys status: who lags comes first.
func evidenceRows(s keys.Status, e keys.Evidence) [][]string {
	if len(e.Holders) == 0 {
		return [][]string{{""}, {"No verifier has fetched the key set so far."}}
	}
	rows := [][]string{
		{""},
		{fmt.Sprintf("The key set changed at %s. Of the verifiers that fetched it within 30 days %d hold this set, %d an older one.", instant(e.ChangedAt), e.Newest, e.Older)},
		{"HOLDS", "FETCHED", "NETWORK", "USER AGENT", "ETAG", "WHAT THAT MEANS"},
	}
	for i, h := range e.Holders {
		if i == mostShown {
			return append(rows, []string{fmt.Sprintf("and %d more; --json lists all", len(e.Holders)-mostShown)})
		}
		rows = append(rows, []string{string(h.Holds), instant(h.FetchedAt), h.Network, h.UserAgent, h.ETag, meaning(s, h)})
	}
	return rows
}

// meaning says in words what a verifier's set makes of it.
func meaning(s keys.Status, h keys.Holder) string {
	var parts []string
	if h.Holds == keys.HoldsUnknown {
		return "those that are not told apart, because there are too many"
	}
	if len(h.Trusts) > 0 {
		parts = append(parts, "may still believe revoked "+named(s, h.Trusts))
	}
	if len(h.Lacks) > 0 {
		parts = append(parts, "lacks "+named(s, h.Lacks))
	}
	switch {
	case h.Holds != keys.HoldsOlder:
	case s.At.Before(h.Due):
		parts = append(parts, "may keep its set until "+instant(h.Due))
	default:
		parts = append(parts, "overdue since "+instant(h.Due)+": it caches longer, cannot reach this server or runs no more")
	}
	return strings.Join(parts, "; ")
}

// named names keys as the first table does.
func named(s keys.Status, kids []string) string {
	var names []string
	for _, k := range s.Keys {
		if slices.Contains(kids, k.KID) {
			names = append(names, fmt.Sprintf("%s %d", k.Algorithm, k.Number))
		}
	}
	return strings.Join(names, ", ")
}
