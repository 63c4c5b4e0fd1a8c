package password

import "fmt"

// The default cost of a hash and the least that is accepted: 19 MiB, two
// passes, one lane (OWASP Password Storage Cheat Sheet, argon2id).
const (
	DefaultMemory      = 19456 // KiB
	DefaultTime        = 2     // passes
	DefaultParallelism = 1     // lanes

	queuePerSlot = 128
)

// The most that is accepted; of an imported hash, too, see Scheme.
const (
	MaxMemory = 256 << 10 // KiB
	MaxWork   = 1 << 20   // KiB times passes
	MaxSlots  = 1024
)

const defaultScheme = "argon2id m=19456,t=2,p=1"

// Policy is how passwords are hashed today and how much of the machine that
// may take. The zero value of each field means its default.
type Policy struct {
	// Memory is the memory of one hash in KiB; default and least 19456.
	Memory int
	// Time is the number of passes over that memory; default and least 2.
	Time int
	// Parallelism is the number of lanes, computed at once; default 1.
	Parallelism int
	// Slots is how many requests hash at once; default: from cores and memory.
	Slots int
	// Queue is how many requests wait for a slot; default 128 for each slot, some three seconds of waiting.
	// Who finds the queue full is refused at once.
	Queue int
}

// DefaultPolicy returns the policy of an untouched configuration; Slots and
// Queue are left to the machine.
func DefaultPolicy() Policy {
	return Policy{Memory: DefaultMemory, Time: DefaultTime, Parallelism: DefaultParallelism}
}

// Validate returns an error that names the first value out of range, what it
// is and what is accepted.
func (p Policy) Validate() error {
	p = p.withDefaults()
	for _, v := range []struct {
		name           string
		got, low, high int
		unit           string
	}{
		{"memory", p.Memory, DefaultMemory, MaxMemory, " KiB"},
		{"time", p.Time, DefaultTime, MaxWork / DefaultMemory, " passes"},
		{"parallelism", p.Parallelism, DefaultParallelism, maxParallelism, " lanes"},
		{"slots", p.Slots, 0, MaxSlots, ", 0 to size them from the machine"},
		{"queue", p.Queue, 0, 1 << 16, ", 0 for 128 per slot"},
	} {
		if v.got < v.low || v.got > v.high {
			return fmt.Errorf("password hashing: %s is %d, want %d to %d%s", v.name, v.got, v.low, v.high, v.unit)
		}
	}
	if err := p.scheme().check(); err != nil { // no hash is made that could not be read again
		return fmt.Errorf("password hashing: %w", err)
	}
	return nil
}

func (p Policy) withDefaults() Policy {
	orDefault := func(v *int, otherwise int) {
		if *v == 0 {
			*v = otherwise
		}
	}
	orDefault(&p.Memory, DefaultMemory)
	orDefault(&p.Time, DefaultTime)
	orDefault(&p.Parallelism, DefaultParallelism)
	return p
}

func (p Policy) scheme() Scheme {
	return Scheme{argon2id, [3]uint32{uint32(p.Memory), uint32(p.Time), uint32(p.Parallelism)}}
}

// sized fills in Slots and Queue for a machine of so many cores and bytes.
//
// One core is left to everything else: a hash is 20 ms and more of pure
// computing, and with as many hashes as cores every refresh would queue behind
// them in the scheduler. On two cores that means one hash at a time, which
// is still some forty logins a second; on one core the scheduler's 10 ms time
// slices have to do. And what all slots hold stays within a quarter of the
// memory: until the garbage collector has run, the blocks of finished hashes
// take up as much again, and the other half is for the rest of the server.
func (p Policy) sized(cores int, memory int64) Policy {
	p = p.withDefaults()
	if p.Slots == 0 {
		byCores := (cores - 1) / p.Parallelism
		byMemory := int(budgetFor(memory) / uint64(p.Memory))
		p.Slots = max(1, min(byCores, byMemory))
	}
	if p.Queue == 0 {
		p.Queue = queuePerSlot * p.Slots
	}
	return p
}

// budgetFor returns in KiB what all hashes together may hold.
func budgetFor(memory int64) uint64 { return uint64(memory / 4 / 1024) }
