/* One family of refresh tokens with its honest holder, a thief who copied a
   token, an operator who ends it, time, and a store that loses its last commit in
   one failover. SPIN visits every reachable state and stops at a broken promise.

   Generations are kept as distances to the head, so nothing bounds how long a
   history is. A request is judged and committed in one step; what may come
   between a request and its answer is that the answer is lost. */
#include "judge.pml"

/* Rules put wrong on purpose: -DFAULT=FORK and so on. Each must be found. */
#define NOTHING        0
#define FORK           1	/* a retry mints a successor of its own */
#define STRICT         2	/* an old token is theft, however young */
#define NO_END         3	/* theft is refused and ends nothing */
#define OLDER_REPLAYS  4	/* the window is for every old generation */
#define REVOKED_LATE   5	/* the head is looked at before the end */
#define EXPIRED_LATE   6	/* the window is looked at before the end of time */
#define NO_AHEAD       7	/* a generation that the store lost is unknown */
#define SKIPS          8	/* a rotation moves by two */
#define NO_LOCKSTEP    9	/* two senders may follow each other for ever */
#define ANY_KEY       10	/* a retry key need not be fresh to prove */
#define KEY_HIDES     11	/* a foreign replay proven by a retry key does not count */
#ifndef FAULT
#define FAULT NOTHING
#endif

/* How many generations in a row the victim and a thief with another agent may
   both be handed, before the family ends. A retry key that never changes and is
   known to the thief buys one more: the replay that it proves is answered. */
#define BOUND (client == CONSTANT -> 4 : 3)
#define BOUNDED (!disguised)

/* ---- State ---- */

/* What the store holds. The head's generation is 0 by definition. */
typedef Row {
	bit ended;
	bit window;	/* the head is younger than the retry window */
	byte key;	/* of the rotation that made the head */
	bit fresh;	/* that key differed from the one before */
	bit stranger;	/* that rotation came from the thief's agent */
	bit seen;
	byte streak;
	bit favour	/* a late retry was answered within 24 hours */
};

/* Retry keys. NEWKEY was never sent before; in a row it is one of the PAST. */
#define NOKEY    0
#define PENDING  1	/* the key of the victim's unanswered refresh */
#define PAST     2
#define SAMEKEY  3
#define NEWKEY   4

/* Victims. */
#define KEYED    0	/* a new retry key per refresh, kept until the answer */
#define BARE     1	/* no retry key */
#define CONSTANT 2	/* always the same one */

byte client;
bit disguised;	/* the thief's agent looks like the victim's */
bit lateRetry;	/* late_retry is once_a_day */

Row row;
Row former;	/* the store before its last commit */
byte moved;	/* by how much that commit moved the head */
bit failedOver;
bit expired;

/* Holders: how far their token is below the head (negative: above it; CAP: that
   or more), and which of several successors, if a wrong rule makes several. */
#define CAP 3
short mine;
bit mineTwin;
bit pending;	/* a refresh of the victim has had no answer */
bit out;	/* the victim was told to log in again */
bit theft;	/* the thief has copied the victim's token */
short loot = CAP;
bit lootTwin;

/* What the promises are judged by; the store knows none of it. */
bit revoked;	/* an end was acknowledged, and no failover lost it */
bit gotMine;	/* the victim was handed this head */
bit gotLoot;	/* and so was the thief */
byte rounds;	/* generations in a row that both were handed, 5 for more than 4 */

/* Scratch within one step. */
hidden byte answered;
hidden byte proves;	/* the retry key is the row's, and fresh */
hidden byte excused;
hidden byte old;
hidden byte twin;
hidden short by;
hidden byte I1, I3, I4, I5, I6, I7, Bound;

#define lower(t) (t + by > CAP -> CAP : t + by)

inline copy(to, from) {
	to.ended = from.ended; to.window = from.window; to.key = from.key; to.fresh = from.fresh;
	to.stranger = from.stranger; to.seen = from.seen; to.streak = from.streak; to.favour = from.favour
}

/* commit comes before every write of the store. */
inline commit(distance) {
	if
	:: !failedOver -> copy(former, row); moved = distance
	:: else -> skip
	fi
}

/* ---- One presented token ---- */

inline question(token, agent, sent) {
	q_belongs = 1; q_proof = UNBOUND; q_rotates = 1; q_enforce = (FAULT != NO_LOCKSTEP);
	q_life = (row.ended -> ENDED : (expired -> EXPIRED : LIVING));
	q_position = (token < 0 -> ABOVE : (token == 0 -> HEAD : (token == 1 -> PREVIOUS : OLDER)));
	q_window = row.window;
	q_foreign = (agent != row.stranger);
	q_key = (sent == NOKEY -> NONE : (sent != row.key || sent == NEWKEY -> OTHER : (row.fresh -> FRESH : STALE)));
	q_seen = row.seen; q_streak = row.streak;
	q_late = (!lateRetry -> REFUSED : (row.favour -> USED : READY))
}

/* wrong is what a wrong rule would say instead. */
inline wrong() {
	if
	:: FAULT == STRICT && o_row >= 9 && o_row <= 11 -> o_row = 12; o_ends = 1; o_marks = 0; o_favour = 0
	:: FAULT == NO_END -> o_ends = 0
	:: FAULT == OLDER_REPLAYS && o_row == 12 && q_position == OLDER -> o_row = 10; o_ends = 0
	:: FAULT == REVOKED_LATE && q_life == ENDED && !expired && q_position == HEAD -> rotates(6)
	:: FAULT == EXPIRED_LATE && q_life == EXPIRED && q_position == PREVIOUS -> o_row = 10
	:: FAULT == NO_AHEAD && o_row == 7 -> o_row = 1; o_moves = 0
	:: FAULT == KEY_HIDES && o_row == 9 -> o_marks = 0
	:: else -> skip
	fi
}

/* promises compares the outcome with the invariants, in their words and not in
   those of the table. old: the token is of an older generation outside the
   window, and nothing excuses it. */
inline promises(token, victims) {
	excused = (token == 1 && (q_window || proves));
	excused = (excused || (token == 1 && lateRetry && !row.favour && !q_foreign));
	old = (token > 0 && !excused);
	I3 = !(victims && !theft && q_life == LIVING && !old && !answered);
	I4 = !(old && q_life == LIVING && !o_ends);
	I5 = !(answered && revoked);
	I6 = !(o_moves && (token > 0 || by != 1 - token));
	I7 = !(answered && expired)
}

inline effect(agent, sent) {
	if
	:: o_moves ->
		commit(by);
		row.ended = 0; row.window = 1; row.fresh = o_fresh; row.stranger = agent;
		row.key = (sent == NEWKEY -> PAST : sent);
		row.seen = 0; row.streak = o_streak;
		mine = lower(mine); loot = lower(loot);
		rounds = (gotMine && gotLoot -> (rounds == 5 -> 5 : rounds + 1) : 0);
		gotMine = 0; gotLoot = 0
	:: !o_moves && (o_marks || o_favour || o_ends) ->
		commit(0);
		row.seen = (row.seen || o_marks); row.favour = (row.favour || o_favour); row.ended = (row.ended || o_ends)
	:: else -> skip
	fi
}

inline present(token, victims, sent) {
	question(token, (!victims && !disguised), sent);
	proves = (q_key == FRESH);
	q_key = (FAULT == ANY_KEY && q_key == STALE -> FRESH : q_key);
	judge();
	wrong();
	answered = ANSWERS(o_row);
	by = (o_moves -> (FAULT == SKIPS -> 2 : 1 - token) : 0);
	promises(token, victims);
	twin = (FAULT == FORK && o_row == 10 && q_foreign);
	effect((!victims && !disguised), sent);
	printf("  row %d, head moves by %d, streak %d\n", o_row, by, row.streak);
	assert(I3); assert(I4); assert(I5); assert(I6); assert(I7)
}

/* witness says which rows a history reaches, with -DWITNESS: a promise about
   what never happens would hold for nothing. */
inline witness() {
#ifdef WITNESS
	assert(o_row != 3); assert(o_row != 4); assert(o_row != 6); assert(o_row != 7);
	assert(o_row != 9); assert(o_row != 10); assert(o_row != 11); assert(o_row != 12)
#else
	skip
#endif
}

/* handed is I1 and the bound of theft, after an answer. */
inline handed() {
	I1 = !(theft && mine == loot && mine == 0 && mineTwin != lootTwin);
	Bound = (!BOUNDED || rounds <= BOUND);
	assert(I1);
	assert(Bound)
}

/* victim: the answer arrives, or (lost) does not. One that arrives ends the
   pending key: it is never sent again. */
inline victim(sent, lost) {
	pending = (sent == NEWKEY -> pending : 1);
	printf("victim: %d below the head, key %d, answer lost %d\n", mine, sent, lost);
	present(mine, 1, sent);
	if
	:: !answered -> out = 1; pending = 0
	:: answered && !lost ->
		mine = 0; mineTwin = twin; pending = 0; gotMine = 1;
		row.key = (row.key == PENDING -> PAST : row.key);
		former.key = (former.key == PENDING -> PAST : former.key)
	:: else -> skip
	fi;
	handed();
	witness()
}

inline thief(sent) {
	printf("thief:  %d below the head, key %d\n", loot, sent);
	present(loot, 0, sent);
	if
	:: answered -> loot = 0; lootTwin = twin; gotLoot = 1
	:: else -> skip
	fi;
	handed();
	witness()
}

/* ---- Steps ---- */

init {
	if
	:: client = KEYED
	:: client = BARE
	:: client = CONSTANT
	fi;
	if
	:: disguised = 0
	:: disguised = 1
	fi;
	if
	:: lateRetry = 0
	:: lateRetry = 1
	fi;
	d_step { row.window = 1; copy(former, row); gotMine = 1 };

	do
	/* The victim refreshes, or retries what had no answer. */
	:: d_step { !out && client == KEYED -> victim(PENDING, 0) }
	:: d_step { !out && client == KEYED -> victim(PENDING, 1) }
	:: d_step { !out && client == BARE -> victim(NOKEY, 0) }
	:: d_step { !out && client == BARE -> victim(NOKEY, 1) }
	:: d_step { !out && client == CONSTANT -> victim(SAMEKEY, 0) }
	:: d_step { !out && client == CONSTANT -> victim(SAMEKEY, 1) }
	/* Another tab, which does not know the pending key. */
	:: d_step { !out && client == KEYED && pending -> victim(NEWKEY, 0) }
	:: d_step { !out && client == KEYED && pending -> victim(NEWKEY, 1) }

	/* The thief copies what the victim holds, once, and uses it as it likes. */
	:: d_step { !out && !theft -> printf("theft\n"); theft = 1; loot = mine; lootTwin = mineTwin; gotLoot = (mine == 0 && gotMine) }
	:: d_step { theft -> thief(NOKEY) }
	:: d_step { theft && client != CONSTANT -> thief(NEWKEY) }
	:: d_step { theft && client == CONSTANT -> thief(SAMEKEY) }

	/* An operator, a logout or a ban ends the family, and hears that it did. */
	:: d_step { !row.ended -> printf("an operator ends the family\n"); commit(0); row.ended = 1; revoked = 1 }

	/* Time: the window closes, a day passes, the family expires. */
	:: d_step { row.window -> printf("the window closes\n"); row.window = 0; former.window = 0 }
	:: d_step { former.window && !failedOver -> former.window = 0 }
	:: d_step { row.favour || former.favour -> printf("a day passes\n"); row.window = 0; former.window = 0; row.favour = 0; former.favour = 0 }
	:: d_step { !expired -> printf("the family expires\n"); expired = 1 }

	/* The store fails over to a copy that lacks the last commit. */
	:: d_step { !failedOver ->
		printf("failover\n");
		failedOver = 1; copy(row, former);
		by = -moved; mine = lower(mine); loot = lower(loot); moved = 0;
		former.ended = 0; former.window = 0; former.key = 0; former.fresh = 0;
		former.stranger = 0; former.seen = 0; former.streak = 0; former.favour = 0;
		revoked = (revoked && row.ended); gotMine = 0; gotLoot = 0; rounds = 0
	}
	od
}
