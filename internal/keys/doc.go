// Package keys owns the keys of the server: the signing keys and their
// timetable, the refresh root keys, how both are sealed at rest, the published
// key set (JWKS) and what an operator does to any of them. It does not own what
// is signed (token), what is derived from a root key (refresh), nor the feed
// that tells verifiers of a revoked key.
//
// The whole of a key's life follows from its stored row and the time, see
// Timeline; no node has to be awake for a key to begin or to end. Plan says
// which rows are missing, Ring holds what a node has read, Custodian does what
// an operator asks.
package keys
