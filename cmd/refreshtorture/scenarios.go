package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// scenarios are the stories in the order they are told.
var scenarios = []scenario{
	{"chain", "ten refreshes in a row: every one brings a new token", needsNothing, chain},
	{"race", "many tabs present one token at once, again and again", needsNothing, race},
	{"lost-answer", "the connection breaks before the answer is read; the client tries again", needsNothing, lostAnswer},
	{"lost-twice", "two answers are lost in a row, then two retries arrive", needsNothing, lostTwice},
	{"lost-keyed", "the same with one Idempotency-Key", needsNothing, lostKeyed},
	{"lost-chain", "every second answer is lost, for many refreshes", needsNothing, lostChain},
	{"late-retry", "an answer is lost and the client comes back late", needsLate, lateRetry},
	{"late-retry-keyed", "the same with an Idempotency-Key", needsLate, lateRetryKeyed},
	{"slow-readers", "answers are read a byte at a time while another tab refreshes", needsNothing, slowReaders},
	{"old-young", "somebody else presents the token that was just swapped", needsNothing, oldYoung},
	{"old-late", "somebody else presents a token that was swapped long ago", needsLate, oldLate},
	{"old-second", "a token two rotations old is presented at once", needsNothing, oldSecond},
	{"thief", "thief and victim take turns, with different user agents", needsNothing, thiefOther},
	{"thief-disguised", "thief and victim take turns, with the same user agent", needsNothing, thiefSame},
	{"thief-late", "the same, and the victim's turn comes late", needsLate, thiefLate},
	{"revoked", "a refresh after the session was ended", needsRevoke, revoked},
	{"revoke-race", "refreshes while the session is ended", needsRevoke, revokeRace},
	{"garbage", "tokens cut short, changed, prolonged and made up", needsNothing, garbage},
}

func list(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, s := range scenarios {
		fmt.Fprintf(t, "%s\t%s\n", s.name, s.story)
	}
	return t.Flush()
}
