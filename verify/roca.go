package verify

import "math/big"

// Chips of one maker once made RSA primes of the form k*M + 65537^a mod M,
// where M is the product of the first primes (CVE-2017-15361, "ROCA"): such a
// modulus can be factored, so anybody could sign. Modulo each of those primes
// it is a power of 65537, which a modulus of random primes is for all of them
// only by a chance that is none. From 2048 bits on M has all primes to 701.
var rocaPrimes = func() (primes []int64) {
next:
	for n := int64(3); n <= 701; n += 2 {
		for _, p := range primes {
			if n%p == 0 {
				continue next
			}
		}
		primes = append(primes, n)
	}
	return primes
}()

// factorable reports whether n is an RSA modulus of that form.
func factorable(n *big.Int) bool {
	rest, prime := new(big.Int), new(big.Int)
	for _, p := range rocaPrimes {
		if !powerOf65537(rest.Mod(n, prime.SetInt64(p)).Int64(), p) {
			return false // after a few primes for any other modulus
		}
	}
	return true
}

// powerOf65537 reports whether some power of 65537 is rest modulo p.
func powerOf65537(rest, p int64) bool {
	for power := int64(1); ; {
		if power == rest {
			return true
		}
		if power = power * (65537 % p) % p; power == 1 {
			return false
		}
	}
}
