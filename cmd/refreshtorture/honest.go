package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// chain refreshes in a row. A token that is never swapped is a thief's for as
// long as its owner's.
func chain(ctx context.Context, l *lab, token string) finding {
	const length = 10
	seen := []string{token}
	for i := range length {
		next, f, ok := l.advance(ctx, token)
		switch {
		case !ok:
			return f
		case next == token:
			return found(unnoticed, "refresh %d answers with the same token: a copy is good for as long as the original", i+1)
		case slices.Contains(seen, next):
			return found(unnoticed, "refresh %d answers with an old token", i+1)
		}
		token = next
		seen = append(seen, token)
	}
	return found(good, "%d refreshes, %d different tokens", length, length)
}

// race presents one token many times at once. Whoever is refused is a tab that
// sends its user to the login page.
func race(ctx context.Context, l *lab, token string) finding {
	for round := range l.rounds {
		c := l.together(ctx, l.racers, token, victim)
		what := fmt.Sprintf("round %d: %s", round+1, c)
		switch {
		case c.trouble > 0:
			return finding{broke, what}
		case c.limited > 0:
			return untried(what)
		case len(c.successors) > 1:
			return l.apart(ctx, c.successors, what)
		case c.refused > 0:
			return finding{loggedOut, what}
		}
		token = c.successors[0]
	}
	if _, f, ok := l.advance(ctx, token); !ok {
		return f
	}
	return found(good, "%d rounds of %d: one successor each, and the session goes on", l.rounds, l.racers)
}

// lostAnswer retries after a cut connection.
func lostAnswer(ctx context.Context, l *lab, token string) finding {
	if err := l.target.lose(ctx, token, victim); err != nil {
		return found(broke, "the refresh whose answer is to be lost: %s", err)
	}
	return l.survives(ctx, l.refresh(ctx, token, victim), "the retry")
}

func lostTwice(ctx context.Context, l *lab, token string) finding {
	return twoRetries(ctx, l, token, victim)
}

func lostKeyed(ctx context.Context, l *lab, token string) finding {
	return twoRetries(ctx, l, token, victim.withKey())
}

// twoRetries loses two answers and reads the next two, which have to be the same.
func twoRetries(ctx context.Context, l *lab, token string, by sender) finding {
	for range 2 {
		if err := l.target.lose(ctx, token, by); err != nil {
			return found(broke, "a refresh whose answer is to be lost: %s", err)
		}
	}
	a := l.refresh(ctx, token, by)
	if !a.granted() {
		return l.survives(ctx, a, "the first retry that is read")
	}
	b := l.refresh(ctx, token, by)
	if !b.granted() {
		return l.survives(ctx, b, "the second retry that is read")
	}
	if a.token != b.token {
		return l.apart(ctx, []string{a.token, b.token}, "two retries, two successors")
	}
	return l.survives(ctx, b, "both retries alike")
}

// lostChain is a train with bad reception.
func lostChain(ctx context.Context, l *lab, token string) finding {
	for i := range l.rounds {
		by := victim.withKey()
		if err := l.target.lose(ctx, token, by); err != nil {
			return found(broke, "refresh %d: %s", i+1, err)
		}
		a := l.refresh(ctx, token, by)
		if !a.granted() {
			return l.survives(ctx, a, fmt.Sprintf("the retry of refresh %d", i+1))
		}
		token = a.token
	}
	if _, f, ok := l.advance(ctx, token); !ok {
		return f
	}
	return found(good, "%d of %d answers lost, every retry granted", l.rounds, 2*l.rounds)
}

// lateRetry is a laptop that was shut while it refreshed. Without a key nobody
// can tell it from a thief with an old copy.
func lateRetry(ctx context.Context, l *lab, token string) finding {
	return retryLate(ctx, l, token, victim)
}

func lateRetryKeyed(ctx context.Context, l *lab, token string) finding {
	return retryLate(ctx, l, token, victim.withKey())
}

func retryLate(ctx context.Context, l *lab, token string, by sender) finding {
	if err := l.target.lose(ctx, token, by); err != nil {
		return found(broke, "the refresh whose answer is to be lost: %s", err)
	}
	l.wait(ctx)
	return l.survives(ctx, l.refresh(ctx, token, by), fmt.Sprintf("the retry %s later", l.late))
}

// slowReaders holds answers open, half read, while another tab refreshes.
func slowReaders(ctx context.Context, l *lab, token string) finding {
	conns := make([]net.Conn, 0, 8)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range cap(conns) {
		c, err := l.target.open(ctx, token, victim)
		if err != nil {
			return found(broke, "a slow reader: %s", err)
		}
		conns = append(conns, c)
	}
	start := time.Now()
	a := l.refresh(ctx, token, victim)
	took := time.Since(start)
	if !a.granted() {
		return l.survives(ctx, a, "another tab beside slow readers")
	}
	successors := []string{a.token}
	for _, c := range conns {
		slow, err := readSlowly(c)
		if err != nil {
			return found(broke, "the answer of a slow reader: %s", err)
		}
		if !slow.granted() {
			return l.survives(ctx, slow, "a slow reader")
		}
		if !slices.Contains(successors, slow.token) {
			successors = append(successors, slow.token)
		}
	}
	if len(successors) > 1 {
		return l.apart(ctx, successors, fmt.Sprintf("%d slow readers and a tab, %d successors", len(conns), len(successors)))
	}
	return l.survives(ctx, a, fmt.Sprintf("another tab beside %d slow readers, after %s", len(conns), took.Round(time.Millisecond)))
}
