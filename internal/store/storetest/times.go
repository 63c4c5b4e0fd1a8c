package storetest

import "os"

// Times is how often a test does what can be done any number of times: a few times, and
// many times with AUTHSERVER_TEST_MUCH=true, as CI has it done without the race detector.
func Times(few, many int) int {
	if os.Getenv("AUTHSERVER_TEST_MUCH") == "true" {
		return many
	}
	return few
}
