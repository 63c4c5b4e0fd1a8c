package prove

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/refresh"
)

// mostFamilies is how many sessions of one user a history may hold.
const mostFamilies = 6

// state is one user's rows as the specification sees them. A history of one
// user is one partition: nobody else's acts touch these rows.
type state struct {
	families [mostFamilies]family
	disabled bool
	password int // which of the history's passwords is right
}

// family is what of refresh.Family a history moves.
type family struct {
	born, ended   bool
	generation    int32
	head          span // in which the head was born
	sender        refresh.Sender
	retryKey      refresh.RetryKey
	keyFresh      bool
	foreignSeen   bool
	foreignStreak int16
}

// span holds an instant of which only the bounds are known, in nanoseconds of
// the history.
type span struct{ from, until int64 }

// The acts of a history.
const (
	opRefresh  = "refresh"
	opLogout   = "logout"
	opEnd      = "end from another session"
	opBan      = "ban"
	opUnban    = "unban"
	opPassword = "password change"
	opLogin    = "login"
	opLook     = "access token shown"
)

// input is what a client asked.
type input struct {
	op         string
	family     int // whose token or session it is about; for opPassword the asker's
	generation int32
	sender     refresh.Sender
	key        string
	password   int // presented
	next       int // opPassword: the new one
	span       span
	// torn: while the password was being hashed, another act raised the
	// version of the credential, so this one was refused and changed nothing.
	torn bool
}

// String is for the list of operations that a failure prints.
func (in input) String() string {
	switch in.op {
	case opRefresh:
		return fmt.Sprintf("refresh of family %d, generation %d, by %x with key %q", in.family, in.generation, in.sender[:2], in.key)
	case opPassword:
		return fmt.Sprintf("change of password %d to %d from family %d", in.password, in.next, in.family)
	case opLogin:
		return fmt.Sprintf("login with password %d", in.password)
	}
	return fmt.Sprintf("%s, family %d", in.op, in.family)
}

// String is for the same list.
func (out output) String() string {
	switch {
	case out.unknown:
		return "unknown"
	case out.code != "":
		return out.code
	}
	return fmt.Sprintf("done (generation %d, family %d)", out.generation, out.family)
}

// output is what it was told.
type output struct {
	unknown    bool   // no answer, or one that says nobody knows
	code       string // of a refusal; empty when the act was done
	generation int32
	family     int // opLogin: the new one
}

// rules is what the model has to know of how a history was made.
type rules struct {
	window time.Duration
	// outages: nodes may have seen some, by which a head's age is reduced.
	outages bool
}

// slack is by how much clocks of one machine may differ: that of this process
// and that of the database are one, read at different ends of a call.
const slack = 20 * time.Millisecond

// model returns the sequential specification: refresh.Judge for whatever
// presents a token, and the few lines below for what ends sessions.
func (r rules) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{}} },
		Step: func(s, in, out any) []any {
			var next []any
			for _, n := range r.step(s.(state), in.(input), out.(output)) {
				next = append(next, n)
			}
			return next
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%v: %v", in, out) },
	}
	return m.ToModel()
}

func (r rules) step(s state, in input, out output) []state {
	switch in.op {
	case opRefresh:
		return r.present(s, in, out)
	case opLogout, opEnd:
		if out.code != "" { // "not yours": it has ended, or the asker has
			return only(s, in.op == opEnd)
		}
		s.families[in.family].ended = true
	case opBan:
		s.disabled = true
		s.endAllBut(-1)
	case opUnban:
		s.disabled = false
	case opPassword:
		switch {
		case out.code == "wrong_password":
			return only(s, in.torn || s.password != in.password)
		case out.code != "":
			return only(s, s.disabled || s.families[in.family].ended)
		case out.unknown && s.password != in.password:
			return []state{s}
		case s.password != in.password:
			return nil
		}
		s.password = in.next
		s.endAllBut(in.family)
	case opLogin:
		right := !s.disabled && s.password == in.password
		if out.code != "" {
			return only(s, in.torn || !right)
		}
		s.families[out.family] = family{born: true, generation: 1, head: in.span, sender: in.sender}
		return only(s, right)
	case opLook:
		return only(s, out.unknown || (out.code == "") == !(s.disabled || s.families[in.family].ended))
	}
	return []state{s}
}

// torn marks the logins and password changes that were refused while something
// else raised the version of the credential they had verified.
func torn(ops []porcupine.Operation) []porcupine.Operation {
	marked := make([]porcupine.Operation, len(ops))
	for i, op := range ops {
		in, out := op.Input.(input), op.Output.(output)
		for j, other := range ops {
			meanwhile := other.Call <= op.Return && other.Return >= op.Call
			switch other.Input.(input).op {
			case opBan, opUnban, opPassword:
				in.torn = in.torn || i != j && meanwhile && out.code != ""
			}
		}
		op.Input = in
		marked[i] = op
	}
	return marked
}

func only(s state, possible bool) []state {
	if !possible {
		return nil
	}
	return []state{s}
}

func (s *state) endAllBut(one int) {
	for i := range s.families {
		if i != one && s.families[i].born {
			s.families[i].ended = true
		}
	}
}

// codes are what the first-party API says for the verdicts that refuse.
var codes = map[refresh.Verdict]string{
	refresh.Unknown: "refresh_invalid", refresh.Revoked: "refresh_revoked",
	refresh.Expired: "refresh_expired", refresh.Reused: "refresh_reused",
}

// present asks Judge, once for each instant that the token may have been judged
// at, and keeps what agrees with the answer.
func (r rules) present(s state, in input, out output) (next []state) {
	f := s.families[in.family]
	attempt := refresh.Attempt{
		Generation: in.generation, Sender: in.sender, RetryKey: refresh.RetryKeyOf(id.Family{}, in.key),
	}
	for _, age := range r.ages(f.head, in.span) {
		row := f.row(s.disabled)
		verdict := refresh.Judge(row, attempt, row.HeadBorn.Add(age), refresh.Policy{IdleTTL: far, RetryWindow: r.window})
		if !out.unknown && !agrees(verdict, out) {
			continue
		}
		after := s
		after.families[in.family] = f.after(verdict, in.span)
		next = append(next, after)
	}
	return next
}

func agrees(v refresh.Outcome, out output) bool {
	if v.Verdict.Answers() {
		return out.code == "" && out.generation == v.Next.Generation
	}
	return out.code == codes[v.Verdict]
}

// ages returns one age within the retry window, one beyond it, or both, as the
// head may have had them when the token was judged.
func (r rules) ages(head, asked span) (ages []time.Duration) {
	oldest := time.Duration(asked.until-head.from) + slack
	youngest := time.Duration(asked.from-head.until) - slack
	if youngest <= r.window || r.outages {
		ages = append(ages, 0)
	}
	if oldest > r.window {
		ages = append(ages, r.window+time.Microsecond)
	}
	return ages
}

// far is beyond the end of every history.
const far = 1000 * time.Hour

var anInstant = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// row spells f as Judge reads it.
func (f family) row(disabled bool) *refresh.Family {
	row := &refresh.Family{
		Rotates: true, IdleTTL: far, BornAt: anInstant, AbsoluteEnd: anInstant.Add(far), HeadBorn: anInstant, UsedAt: anInstant,
		Generation: f.generation, Sender: f.sender, RetryKey: f.retryKey, KeyFresh: f.keyFresh,
		ForeignSeen: f.foreignSeen, ForeignStreak: f.foreignStreak, Disabled: disabled,
	}
	if f.ended {
		row.EndedAt = anInstant
	}
	return row
}

// after is f when the verdict was carried out.
func (f family) after(v refresh.Outcome, asked span) family {
	if v.Ends {
		f.ended = true
		return f
	}
	n := v.Next
	if n.Generation != f.generation {
		f.head = asked
	}
	f.generation, f.sender, f.retryKey, f.keyFresh = n.Generation, n.Sender, n.RetryKey, n.KeyFresh
	f.foreignSeen, f.foreignStreak = n.ForeignSeen, n.ForeignStreak
	return f
}

// never is when an operation without an answer ends: it may take effect at any
// time after it was asked, or not at all.
const never = math.MaxInt64
