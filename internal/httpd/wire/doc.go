// Package wire owns what the doors and their middleware share: the scope of one
// request, the one table from fault codes to HTTP answers (RFC 9457), the strict
// reading of JSON bodies and the spelling of answers.
//
// It does not own any endpoint (the doors do), nor the order of middleware
// (package httpd). It decides nothing about accounts, sessions or tokens.
package wire
