// Package postgres keeps every room's rows in PostgreSQL 14 or later: one file
// for each room, one small type for each of the rooms' stores, all over one
// [DB]. It owns SQL, connections and transactions. It does not own a rule: what
// a token is worth says refresh.Judge, which is called inside the transaction.
//
// Two habits hold everywhere. A transaction runs on a context that no request
// can cancel, and no connection ever sends a cancel request: a cancelled COMMIT
// under synchronous replication succeeds, and says so only in a warning. And
// locks are taken in one order: user rows by id, then family rows by id, then
// the rest.
package postgres
