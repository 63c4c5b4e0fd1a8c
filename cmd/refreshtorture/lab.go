package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// verdict is what a scenario came to.
type verdict string

// The verdicts. All but good and untried are findings.
const (
	good      verdict = "good"
	loggedOut verdict = "honest user logged out"
	unnoticed verdict = "thief unnoticed"
	forked    verdict = "fork: two living successors"
	undead    verdict = "an ended session answers"
	broke     verdict = "5xx or no answer"
	notTried  verdict = "not tried"
)

// finding is a verdict with what happened.
type finding struct {
	verdict verdict
	what    string
}

func found(v verdict, format string, args ...any) finding {
	return finding{v, fmt.Sprintf(format, args...)}
}

func untried(why string) finding { return finding{notTried, why} }

// needs is what a scenario cannot do without.
type needs int

const (
	needsNothing needs = iota
	needsLate
	needsRevoke
)

// scenario is one story, told on a family of its own.
type scenario struct {
	name  string
	story string
	needs needs
	run   func(ctx context.Context, l *lab, token string) finding
}

// lab is what the stories share.
type lab struct {
	target *target
	racers int
	rounds int
	late   time.Duration
	pause  func(context.Context, time.Duration)
}

// How often one is asked again that answers 503 with Retry-After, and how long it may tell
// others to wait.
const (
	mostTries   = 4
	longestWait = 10 * time.Second
)

// refresh presents a token as a well-behaved client does, which comes again where it is told
// to. In a race everybody asks once: see together.
func (l *lab) refresh(ctx context.Context, token string, by sender) (a answer) {
	a = l.target.refresh(ctx, token, by)
	for try := 1; try < mostTries && a.after > 0 && a.after <= longestWait; try++ {
		l.pause(ctx, a.after)
		a = l.target.refresh(ctx, token, by)
	}
	return a
}

// wait lets the window of a rotation close.
func (l *lab) wait(ctx context.Context) { l.pause(ctx, l.late) }

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// together presents one token n times at once.
func (l *lab) together(ctx context.Context, n int, token string, by sender) tally {
	answers := make([]answer, n)
	var start, all sync.WaitGroup
	start.Add(1)
	for i := range answers {
		all.Go(func() {
			start.Wait()
			answers[i] = l.target.refresh(ctx, token, by)
		})
	}
	start.Done()
	all.Wait()
	return count(answers)
}

// tally counts answers to one question.
type tally struct {
	granted, refused, limited, trouble int
	successors                         []string // the different ones
	first                              answer   // that was trouble, or else refused
}

func count(answers []answer) tally {
	var c tally
	for _, a := range answers {
		switch {
		case a.granted():
			c.granted++
			if !slices.Contains(c.successors, a.token) {
				c.successors = append(c.successors, a.token)
			}
		case a.trouble():
			if c.trouble == 0 {
				c.first = a
			}
			c.trouble++
		case a.limited():
			c.limited++
		default:
			if c.trouble+c.refused == 0 {
				c.first = a
			}
			c.refused++
		}
	}
	return c
}

func (c tally) String() string {
	parts := []string{fmt.Sprintf("%d granted with %d successor(s)", c.granted, len(c.successors))}
	if c.refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", c.refused))
	}
	if c.limited > 0 {
		parts = append(parts, fmt.Sprintf("%d limited", c.limited))
	}
	if c.trouble > 0 {
		parts = append(parts, fmt.Sprintf("%d in trouble", c.trouble))
	}
	text := strings.Join(parts, ", ")
	if c.refused+c.trouble > 0 {
		text += fmt.Sprintf(" (%s)", c.first)
	}
	return text
}

// apart says what it means that one token was answered with several
// successors: two that live are a fork; if only one does, whoever holds another
// is out.
func (l *lab) apart(ctx context.Context, successors []string, what string) finding {
	c := l.each(ctx, successors)
	if c.trouble > 0 {
		return found(broke, "%s; then %s", what, c)
	}
	if len(c.successors) > 1 {
		return found(forked, "%s; %d of them live", what, len(c.successors))
	}
	return found(loggedOut, "%s; at most one of them lives", what)
}

// each presents several tokens, one after the other.
func (l *lab) each(ctx context.Context, tokens []string) tally {
	var answers []answer
	for _, token := range tokens {
		answers = append(answers, l.refresh(ctx, token, victim))
	}
	return count(answers)
}

// survives says whether an honest holder who got a goes on. what tells how a
// came about.
func (l *lab) survives(ctx context.Context, a answer, what string) finding {
	if f, bad := unanswered(a, what); bad {
		return f
	}
	if a.refused() {
		return found(loggedOut, "%s: %s", what, a)
	}
	b := l.refresh(ctx, a.token, victim)
	if f, bad := unanswered(b, what+", then the successor"); bad {
		return f
	}
	if b.refused() {
		return found(loggedOut, "%s: granted, but its successor: %s", what, b)
	}
	return found(good, "%s: granted, and the session goes on", what)
}

// unanswered reports an answer that says nothing about the token.
func unanswered(a answer, what string) (finding, bool) {
	switch {
	case a.trouble():
		return found(broke, "%s: %s", what, a), true
	case a.limited():
		return untried(what + ": 429; slow down with --racers and --rounds"), true
	default:
		return finding{}, false
	}
}

// advance rotates once for the victim; ok says that it went on.
func (l *lab) advance(ctx context.Context, token string) (next string, f finding, ok bool) {
	a := l.refresh(ctx, token, victim)
	if f, bad := unanswered(a, "an ordinary refresh"); bad {
		return "", f, false
	}
	if a.refused() {
		return "", found(loggedOut, "an ordinary refresh: %s", a), false
	}
	return a.token, finding{}, true
}
