package main

import (
	"context"
	"fmt"
)

// ended says whether a family that saw a theft is dead: token is the best one
// that is left of it.
func (l *lab) ended(ctx context.Context, token string, by sender, what string) finding {
	a := l.refresh(ctx, token, by)
	if f, bad := unanswered(a, what); bad {
		return f
	}
	if a.granted() {
		return found(unnoticed, "%s, but the family lives: the best token that is left is granted", what)
	}
	return found(good, "%s, and the family ended", what)
}

// oldYoung is a thief who comes seconds after the victim. He may be taken for a
// retry, but he may not get a chain of his own, and no retry may cost the
// victim the session.
func oldYoung(ctx context.Context, l *lab, token string) finding {
	next, f, ok := l.advance(ctx, token)
	if !ok {
		return f
	}
	a := l.refresh(ctx, token, thief)
	if f, bad := unanswered(a, "the old token"); bad {
		return f
	}
	switch {
	case a.refused():
		return l.ended(ctx, next, victim, "refused")
	case a.token != next:
		return l.apart(ctx, []string{next, a.token}, "the old token got a successor of its own")
	default:
		return l.survives(ctx, answer{status: 200, token: next}, "the old token got what the victim has; the victim")
	}
}

// oldLate is a thief with an old copy.
func oldLate(ctx context.Context, l *lab, token string) finding {
	next, f, ok := l.advance(ctx, token)
	if !ok {
		return f
	}
	l.wait(ctx)
	return l.theft(ctx, token, thief, next, fmt.Sprintf("the old token %s later", l.late))
}

// oldSecond is a token that no client can hold who got the last answer but one.
func oldSecond(ctx context.Context, l *lab, token string) finding {
	next, f, ok := l.advance(ctx, token)
	if !ok {
		return f
	}
	last, f, ok := l.advance(ctx, next)
	if !ok {
		return f
	}
	return l.theft(ctx, token, victim, last, "the token before the last one")
}

// theft presents an old token, which has to end the family whose head is head.
func (l *lab) theft(ctx context.Context, old string, by sender, head, what string) finding {
	a := l.refresh(ctx, old, by)
	if f, bad := unanswered(a, what); bad {
		return f
	}
	switch {
	case a.refused():
		return l.ended(ctx, head, victim, fmt.Sprintf("%s: %s", what, a))
	case a.token != head:
		return l.both(ctx, head, a.token, what+" is granted a successor of its own")
	default:
		return found(unnoticed, "%s is granted what the victim has", what)
	}
}

// both says whether two holders with different tokens both live.
func (l *lab) both(ctx context.Context, mine, loot, what string) finding {
	a, b := l.refresh(ctx, mine, victim), l.refresh(ctx, loot, thief)
	c := count([]answer{a, b})
	switch {
	case c.trouble > 0:
		return found(broke, "%s; then %s", what, c)
	case len(c.successors) > 1:
		return found(forked, "%s; both live", what)
	case b.granted():
		return found(unnoticed, "%s; the thief is in and the victim is %s", what, a)
	default:
		return found(loggedOut, "%s; the victim: %s, the thief: %s", what, a, b)
	}
}

func thiefOther(ctx context.Context, l *lab, token string) finding {
	return turns(ctx, l, token, thief, l.rounds, func() {})
}

func thiefSame(ctx context.Context, l *lab, token string) finding {
	return turns(ctx, l, token, victim, l.rounds, func() {})
}

// thiefLate is the thief that no agent gives away and no haste: he takes part,
// and each time the victim comes after the window.
func thiefLate(ctx context.Context, l *lab, token string) finding {
	const rounds = 3
	return turns(ctx, l, token, victim, rounds, func() { l.wait(ctx) })
}

// turns lets thief and victim refresh in turns, the thief first, each with the
// last token it got, and with a pause before the victim's turn. It is noticed
// when one of them is refused and the other one's token is dead as well.
func turns(ctx context.Context, l *lab, token string, robber sender, rounds int, pause func()) finding {
	mine, loot := token, token
	for round := 1; round <= rounds; round++ {
		b := l.refresh(ctx, loot, robber)
		if f, bad := unanswered(b, "the thief's turn"); bad {
			return f
		}
		if b.refused() {
			return l.ended(ctx, mine, victim, fmt.Sprintf("the thief is refused in round %d (%s)", round, b))
		}
		loot = b.token
		pause()
		a := l.refresh(ctx, mine, victim)
		if f, bad := unanswered(a, "the victim's turn"); bad {
			return f
		}
		if a.refused() {
			return l.ended(ctx, loot, robber, fmt.Sprintf("theft is noticed in round %d (%s)", round, a))
		}
		mine = a.token
	}
	if mine != loot {
		return l.both(ctx, mine, loot, fmt.Sprintf("after %d rounds they hold different tokens", rounds))
	}
	return found(unnoticed, "after %d rounds both still hold the one living token", rounds)
}
