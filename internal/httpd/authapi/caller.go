package authapi

import (
	"net/http"

	"example.com/authserver/internal/httpd/wire"
)

// caller returns who asks, if the token and its session stand.
func (d *Door) caller(s *wire.Scope, r *http.Request) (wire.Caller, error) {
	return d.bearer.Caller(s, r, d.Sessions, d.Refresh)
}
