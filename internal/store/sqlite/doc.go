// Package sqlite keeps every room's rows in one SQLite file: one file for each
// room, one small type for each of the rooms' stores, all over one [DB]. It
// owns SQL, connections and transactions. It does not own a rule: what a token
// is worth says refresh.Judge, which is called inside the transaction.
//
// One connection writes, a few others read. The write-ahead log lets them work
// side by side, and synchronous=FULL makes every commit survive a power cut.
// Who reads and then writes what was read does both in one transaction of the
// writer (BEGIN IMMEDIATE), so no row is ever locked and no transaction fails
// for want of a later lock. The clock is that of the process, in microseconds,
// read after the transaction has begun: commits are in the order of their
// instants unless somebody sets the clock back.
package sqlite
