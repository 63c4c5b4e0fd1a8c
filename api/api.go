// Package api holds the description of the HTTP interface, OpenAPI 3.1. The
// server serves it; the tests hold it together with the routes, the error table
// and every request and answer they make.
package api

import _ "embed"

// OpenAPI is openapi.yaml.
//
//go:embed openapi.yaml
var OpenAPI []byte
