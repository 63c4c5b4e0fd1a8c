package adminapi

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
)

// queryOf reads the query of a request. What is not understood is refused: a
// misspelt filter would show or end more than was meant.
func queryOf(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.New(fault.InvalidRequest, "The query is malformed: want name=value pairs, joined by & and percent-encoded.")
	}
	for name, values := range query {
		if !slices.Contains(names, name) {
			return nil, fault.New(fault.InvalidRequest, "The query has the unknown parameter %.40q; want some of %s.", name, strings.Join(names, ", "))
		}
		if len(values) != 1 {
			return nil, fault.New(fault.InvalidRequest, "The query has the parameter %q twice.", name)
		}
	}
	return query, nil
}

// limitOf reads ?limit.
func limitOf(query url.Values, otherwise, most int) (int, error) {
	if !query.Has("limit") {
		return otherwise, nil
	}
	n, err := strconv.Atoi(query.Get("limit"))
	if err != nil || n < 1 || n > most {
		return 0, fault.New(fault.InvalidRequest, "The parameter \"limit\" is %.40q; want a number from 1 to %d.", query.Get("limit"), most)
	}
	return n, nil
}

// flagOf reads a parameter that is true or false; absent is false.
func flagOf(query url.Values, name string) (bool, error) {
	switch query.Get(name) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	if query.Has(name) {
		return false, fault.New(fault.InvalidRequest, "The parameter %q is %.40q; want true or false.", name, query.Get(name))
	}
	return false, nil
}

// idIn reads an optional parameter that holds an id; none is the zero id.
func idIn[K any](query url.Values, name string, none id.Of[K]) (id.Of[K], error) {
	i := none
	if query.Has(name) && i.UnmarshalText([]byte(query.Get(name))) != nil {
		return none, fault.New(fault.InvalidRequest, "The parameter %q is %.40q; want an id like 00000000-0000-4000-8000-000000000000.", name, query.Get(name))
	}
	return i, nil
}

// instantOf reads an instant (RFC 3339); "" is the zero time.
func instantOf(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.IsZero() {
		return time.Time{}, fault.New(fault.InvalidRequest, "%q is %.40q; want an instant like 2026-11-26T12:00:00.000Z.", name, text)
	}
	return at, nil
}
