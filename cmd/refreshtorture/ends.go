package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// revoked refreshes after the end was acknowledged.
func revoked(ctx context.Context, l *lab, token string) finding {
	next, f, ok := l.advance(ctx, token)
	if !ok {
		return f
	}
	end := l.target.revoke(ctx, next, victim)
	if f, bad := unanswered(end, "the revocation"); bad {
		return f
	}
	if end.status/100 != 2 {
		return untried(fmt.Sprintf("the revocation was answered with %s", end))
	}
	for _, t := range []string{next, token} {
		a := l.refresh(ctx, t, victim)
		if f, bad := unanswered(a, "a refresh after the end"); bad {
			return f
		}
		if a.granted() {
			return found(undead, "the session was ended (%d), and a refresh is granted", end.status)
		}
	}
	return found(good, "ended (%d), and every token of it is refused", end.status)
}

// revokeRace ends the session while it is refreshed without pause. Whatever was
// handed out meanwhile has to be dead.
func revokeRace(ctx context.Context, l *lab, token string) finding {
	const longest = 200 // refreshes, should the end never show
	var (
		mu     sync.Mutex
		tokens = []string{token}
		moving = make(chan struct{})
		done   = make(chan answer, 1)
	)
	newest := func() string {
		mu.Lock()
		defer mu.Unlock()
		return tokens[len(tokens)-1]
	}
	go func() {
		var a answer
		for i := range longest {
			a = l.target.refresh(ctx, newest(), victim)
			if i == 3 || !a.granted() && i < 3 {
				close(moving)
			}
			if !a.granted() {
				break
			}
			mu.Lock()
			tokens = append(tokens, a.token)
			mu.Unlock()
		}
		done <- a
	}()
	<-moving
	end := l.target.revoke(ctx, newest(), victim)
	last := <-done
	for _, a := range []answer{end, last} {
		if f, bad := unanswered(a, "the end, or a refresh beside it"); bad {
			return f
		}
	}
	if end.status/100 != 2 {
		return untried(fmt.Sprintf("the revocation was answered with %s", end))
	}
	if len(tokens) <= 3 {
		return found(loggedOut, "refused (%s) before the session was ended", last)
	}
	if last.granted() {
		return found(undead, "ended (%d), and %d more refreshes are granted", end.status, longest)
	}
	recent := slices.Clone(tokens[max(0, len(tokens)-3):])
	slices.Reverse(recent)
	if c := l.each(ctx, recent); c.granted > 0 {
		return found(undead, "ended (%d); of the tokens handed out meanwhile: %s", end.status, c)
	} else if c.trouble > 0 {
		return found(broke, "tokens handed out meanwhile: %s", c)
	}
	return found(good, "ended (%d) after %d refreshes, and what was handed out is dead", end.status, len(tokens)-1)
}

// garbage presents what is no token. It has to be refused without a 5xx, and
// must not cost the session that the true token belongs to.
func garbage(ctx context.Context, l *lab, token string) finding {
	forged := forgeries(token)
	for _, text := range forged {
		a := l.refresh(ctx, text, victim)
		if f, bad := unanswered(a, fmt.Sprintf("a token of %d characters that was never made", len(text))); bad {
			return f
		}
		if a.granted() {
			return found(unnoticed, "a token of %d characters that was never made is granted (the true one has %d)", len(text), len(token))
		}
	}
	return l.survives(ctx, l.refresh(ctx, token, victim), fmt.Sprintf("%d forgeries refused; the true token", len(forged)))
}

// forgeries are texts that resemble token and are not it. The last character of
// a base64 text may carry unused bits, so it is changed among the others only.
func forgeries(token string) []string {
	forged := []string{
		" ", "null", "undefined", "0", "../../etc/passwd", "' OR '1'='1", "\x00", "\u202e\ufffd",
		strings.Repeat("A", 5000), strings.Repeat(".", 3000), token + "A", token + token, "A" + token,
		strings.ToUpper(token), strings.ToLower(token),
	}
	for _, n := range []int{1, 2, len(token) / 4, len(token) / 2, len(token) - 2, len(token) - 1} {
		if n > 0 && n < len(token) {
			forged = append(forged, token[:n], token[n:])
		}
	}
	for i := 0; i < len(token)-1; i += max(1, len(token)/24) {
		changed := byte('A')
		if token[i] == 'A' {
			changed = 'B'
		}
		forged = append(forged, token[:i]+string(changed)+token[i+1:])
	}
	return slices.DeleteFunc(forged, func(text string) bool { return text == token })
}
