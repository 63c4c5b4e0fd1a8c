// Package vectors holds the test vectors of others that this repository carries
// a copy of against the module they were published in. It is a module of its
// own because that one has 111 MB.
package vectors
