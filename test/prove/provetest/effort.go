// Package provetest holds what the proofs share: seeds that can be replayed,
// the effort of a run, the figures it prints, and the client that every promise
// is made to: one that keeps its token until it has another.
package provetest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Variables of the environment.
const (
	// SeedVariable replays the random choices of a run.
	SeedVariable = "AUTHSERVER_PROVE_SEED"
	// EffortVariable says how much is done: 1 is a run of seconds, for make
	// test; make prove and make prove-long ask for more.
	EffortVariable = "AUTHSERVER_PROVE_EFFORT"
)

// Effort is by how much the small run is multiplied.
func Effort(t testing.TB) int {
	t.Helper()
	return number(t, EffortVariable, 1)
}

// Seed returns the seed of this run and prints it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(number(t, SeedVariable, int(rand.Uint32())))
	t.Logf("seed %d (%s=%d replays the choices)", seed, SeedVariable, seed)
	return seed
}

// Dice returns a source of choices that depends on the seed and on who throws.
func Dice(seed uint64, who int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(who))) }

// Figure prints a count that scripts/prove adds up over all tests.
func Figure(t testing.TB, what string, n int) {
	t.Helper()
	t.Logf("figure: %s: %d", what, n)
}

// Figures prints a count of each kind.
func Figures(t testing.TB, what string, counts map[string]int) {
	t.Helper()
	for kind, n := range counts {
		Figure(t, what+", "+kind, n)
	}
}

func number(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q: want a number", variable, text)
	}
	return n
}
