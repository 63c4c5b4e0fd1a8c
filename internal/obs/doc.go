// Package obs owns what an operator sees from outside: the log's shape and the
// Prometheus metrics with their names. It implements the Observers that the
// rooms and the listeners ask for.
//
// It does not own what is worth telling: the rooms and httpd decide that. Its
// labels are bounded; no id, address or e-mail is one.
package obs
