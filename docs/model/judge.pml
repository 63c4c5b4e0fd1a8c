/* The verdict over a presented refresh token, over an abstract situation. It
   states the twelve rows of refresh.Judge and nothing else; a Go test walks this
   same space through the real Judge and compares the two.

   q_... is the question: what Judge looks at, with instants and hashes reduced
   to what the rows ask. o_... is the outcome. Neither is part of the state. */

/* q_proof */
#define UNBOUND  0
#define UNPROVEN 1	/* the family is bound and this request does not prove it */
#define BYSECRET 2
#define BYKEY    3
/* q_life */
#define LIVING  0
#define ENDED   1	/* or the user is disabled, or the family is below the floor */
#define EXPIRED 2
/* q_position */
#define HEAD     0
#define ABOVE    1
#define PREVIOUS 2
#define OLDER    3
/* q_key: the retry key of the request */
#define NONE  0
#define FRESH 1	/* the row's, and the row's is fresh */
#define STALE 2	/* the row's, and the row's is not */
#define OTHER 3	/* not the row's */
/* q_late */
#define REFUSED 0
#define READY   1	/* late_retry is once_a_day, and there was none in 24 hours */
#define USED    2

hidden byte q_belongs;	/* secret, client, transport and root key are the family's */
hidden byte q_proof;
hidden byte q_life;
hidden byte q_rotates;
hidden byte q_position;
hidden byte q_window;	/* the head is younger than the retry window */
hidden byte q_foreign;	/* the sender is not that of the rotation that made the head */
hidden byte q_key;
hidden byte q_seen;	/* this generation saw a foreign replay, unproven or proven by a retry key */
hidden byte q_streak;	/* generations in a row before this one that did, at most 2 */
hidden byte q_late;
hidden byte q_enforce;	/* the lock-step rule ends the family, rather than reports */

hidden byte o_row;
hidden byte o_moves;	/* the head becomes the presented generation + 1 */
hidden byte o_streak;	/* after a move */
hidden byte o_fresh;	/* after a move */
hidden byte o_marks;	/* foreign_seen is set */
hidden byte o_favour;	/* late_at is set */
hidden byte o_ends;

#define ANSWERS(row) (row >= 5 && row <= 11)
#define LOCKSTEP (q_foreign && q_streak == 2)

inline rotates(row) {
	o_row = row;
	o_moves = 1;
	o_streak = (q_seen -> (q_streak == 2 -> 2 : q_streak + 1) : 0);
	o_fresh = (q_key == OTHER);
}

inline judge() {
	o_moves = 0; o_streak = 0; o_fresh = 0; o_marks = 0; o_favour = 0; o_ends = 0;
	if
	:: !q_belongs -> o_row = 1
	:: else -> if
	:: q_proof == UNPROVEN -> o_row = 2
	:: else -> if
	:: q_life == ENDED -> o_row = 3
	:: else -> if
	:: q_life == EXPIRED -> o_row = 4
	:: else -> if
	:: q_position == HEAD && !q_rotates -> o_row = 5
	:: q_position == HEAD && q_rotates -> rotates(6)
	:: q_position == ABOVE -> rotates(7)
	:: else -> if
	:: q_proof == BYKEY -> o_row = 8
	:: else -> if
	:: q_position == PREVIOUS && (q_proof == BYSECRET || q_key == FRESH) ->
		o_row = 9; o_marks = (q_proof != BYSECRET && q_foreign && !q_seen)
	:: else -> if
	:: q_position == PREVIOUS && q_window && !(LOCKSTEP && q_enforce) ->
		o_row = 10; o_marks = (q_foreign && !q_seen)
	:: q_position == PREVIOUS && !q_window && !q_foreign && q_late == READY ->
		o_row = 11; o_favour = 1
	:: else -> o_row = 12; o_ends = 1
	fi fi fi fi fi fi fi fi
}
