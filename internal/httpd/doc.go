// Package httpd owns the two listeners: what is mounted where, the middleware
// that every request passes, and how a server stops without cutting anybody
// off.
//
// It does not own endpoints of the API (the doors below it do), what an error
// looks like (httpd/wire), nor metrics (package obs, behind an Observer).
//
// A request to the public listener passes, in this order: client address,
// scope and event, security headers, CORS, the edge limit, the route, and under
// /v1 the check against cross-site requests.
package httpd
