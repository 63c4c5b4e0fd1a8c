/* Writes judge out, situation by situation: `spin -T table.pml`. One line for
   each choice of the first five parts of the question, and in it one outcome
   for each choice of the other seven, the last of which turns fastest. */
#include "judge.pml"

hidden byte b, p, l, r, w, f, k, s, n, t, e, g;

init {
	for (b : 0 .. 1) { for (p : 0 .. 3) { for (l : 0 .. 2) { for (r : 0 .. 1) { for (g : 0 .. 3) {
		printf("%d %d %d %d %d", b, p, l, r, g);
		for (w : 0 .. 1) { for (f : 0 .. 1) { for (k : 0 .. 3) { for (s : 0 .. 1) {
		for (n : 0 .. 2) { for (t : 0 .. 2) { for (e : 0 .. 1) {
			d_step {
				q_belongs = b; q_proof = p; q_life = l; q_rotates = r; q_position = g;
				q_window = w; q_foreign = f; q_key = k; q_seen = s; q_streak = n; q_late = t; q_enforce = e;
				judge()
			}
			printf(" %d,%d,%d,%d,%d,%d,%d", o_row, o_moves, o_streak, o_fresh, o_marks, o_favour, o_ends)
		} } } } } } }
		printf("\n")
	} } } } }
}
