package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/revocation"
)

var (
	listType  = []string{"application/statuslist+jwt"}
	listCache = []string{fmt.Sprintf("public, max-age=%d", int(revocation.ListTTL/time.Second))}
)

// statusList is GET /v1/status/{list}: one Token Status List, for everybody.
// There is the JWT form alone, so a request's Accept changes nothing (RFC 9110
// section 12.5.1). Former states are not kept; a question for one (the draft's
// parameter time) is refused rather than answered with the present.
func (s *Server) statusList(_ *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	s.open(w.Header())
	if r.URL.Query().Has("time") {
		return fault.New(fault.InvalidRequest, "Former states of a status list are not kept here; ask without \"time\".")
	}
	text := chi.URLParam(r, "list")
	list, err := strconv.ParseInt(text, 10, 53)
	if err != nil || strconv.FormatInt(list, 10) != text {
		return noList()
	}
	l, err := s.rooms.Feed.List(list)
	if errors.Is(err, revocation.ErrNoList) {
		return noList()
	}
	if err != nil {
		return err
	}
	h := w.Header()
	h["Etag"], h["Cache-Control"] = []string{l.ETag}, listCache
	h["Access-Control-Expose-Headers"] = []string{"ETag"}
	if matches(r.Header["If-None-Match"], strings.TrimPrefix(l.ETag, "W/")) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h["Content-Type"], h["Content-Length"] = listType, []string{strconv.Itoa(len(l.JWS))}
	_, _ = w.Write(l.JWS) // a client that went away is no news
	return nil
}

func noList() error {
	return fault.New(fault.NotFound, "There is no such status list; a token's claim status.status_list.uri names the one to ask for.")
}
