package benchmark

import (
	"testing"
)

// What is measured is verification: each contestant refuses a token whose
// signature is another's, and one that was changed.
func TestContestants_doTheirWork(t *testing.T) {
	for _, alg := range algorithms {
		p, other := newParty(t, alg), newParty(t, alg)
		for _, c := range contestants {
			check := c.make(t, p)
			if err := check(t.Context(), p.tokens[0]); err != nil {
				t.Errorf("%s, %s: %v", c.name, alg, err)
			}
			for name, bad := range map[string]string{
				"forged": other.tokens[0], "changed": p.tokens[0][:len(p.tokens[0])-20] + "AAAA" + p.tokens[0][len(p.tokens[0])-16:],
			} {
				if err := check(t.Context(), bad); err == nil {
					t.Errorf("%s, %s: a %s token is accepted", c.name, alg, name)
				}
			}
		}
	}
}
