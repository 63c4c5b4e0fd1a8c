package httpd

import (
	"encoding/hex"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
)

// keySet answers GET and HEAD of the key set before any middleware. Some
// verifiers fetch it at every bad signature, so that forged tokens turn into
// requests here: it must cost little more than the bytes.
type keySet struct {
	server *Server
	next   http.Handler
	ready  atomic.Pointer[readySet]
	count  atomic.Uint64
	prefix string // of request ids
}

// readySet is a key set with what its headers say, made once for each set.
type readySet struct {
	etag   string
	header []line
}

type line struct {
	name  string
	value []string
}

func newKeySet(s *Server) *keySet { return &keySet{server: s, prefix: id.NewRequest()[:12]} }

// ServeHTTP implements http.Handler. Whatever is out of the ordinary (no set,
// a drain, a log that wants everything) takes the long way.
func (k *keySet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != jwksPath || (r.Method != http.MethodGet && r.Method != http.MethodHead) ||
		k.server.draining.Load() || k.server.rooms.Log.Enabled(r.Context(), slog.LevelDebug) {
		k.next.ServeHTTP(w, r)
		return
	}
	begun := time.Now()
	set, err := k.server.rooms.Ring.JWKS()
	if err != nil {
		k.next.ServeHTTP(w, r)
		return
	}
	w.Header()["X-Request-Id"] = []string{k.requestID()}
	status := k.answer(w, r, set)
	k.server.rooms.Observer.Served(jwksPath, r.Method, status, time.Since(begun))
}

// handle is the long way, behind the middleware. An error is 503: an empty set
// would be cached, and every token refused.
func (k *keySet) handle(_ *wire.Scope, w http.ResponseWriter, r *http.Request) error {
	set, err := k.server.rooms.Ring.JWKS()
	if err == nil {
		k.answer(w, r, set)
	}
	return err
}

// answer writes a set, from memory, whatever the database does.
func (k *keySet) answer(w http.ResponseWriter, r *http.Request, set keys.JWKS) (status int) {
	h := w.Header()
	delete(h, "Referrer-Policy") // of the long way
	delete(h, "Content-Security-Policy")
	for _, l := range k.headers(set) {
		h[l.name] = l.value
	}
	if roll := k.server.rooms.Roll; roll != nil && r.Method == http.MethodGet && r.UserAgent() != keys.OwnAgent {
		// Whoever is answered holds this set from now on, by 200 and by 304.
		roll.Saw(k.server.readerOf(r), wire.CleanUserAgent(r.UserAgent()), set)
	}
	if matches(r.Header["If-None-Match"], set.ETag) {
		delete(h, "Content-Type")
		delete(h, "Content-Length")
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write(set.Body) // a client that went away is no news
	}
	return http.StatusOK
}

// headers are those of a set; the slices are shared and never changed.
func (k *keySet) headers(set keys.JWKS) []line {
	if ready := k.ready.Load(); ready != nil && ready.etag == set.ETag {
		return ready.header
	}
	h := http.Header{}
	k.server.harden(h, "")
	h["Etag"] = []string{set.ETag}
	h["Cache-Control"] = []string{k.server.rooms.Ring.CacheControl()}
	h["Cross-Origin-Resource-Policy"] = crossOrigin
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Content-Type"] = keySetHeader
	h["Content-Length"] = []string{strconv.Itoa(len(set.Body))}
	// What follows is for documents, and for one answer alone. A set of keys
	// links to nothing and runs nothing, and every line costs what it costs some
	// ten thousand times a second.
	for _, name := range []string{"Referrer-Policy", "Content-Security-Policy", "X-Request-Id", "Connection"} {
		delete(h, name)
	}
	ready := &readySet{etag: set.ETag}
	for name, value := range h {
		ready.header = append(ready.header, line{name, value})
	}
	k.ready.Store(ready)
	return ready.header
}

// requestID is unique as any other, but counts instead of asking for
// randomness.
func (k *keySet) requestID() string {
	var id [20]byte
	n := k.count.Add(1)
	return string(hex.AppendEncode(append(id[:0], k.prefix...), []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}))
}

// matches is the weak comparison of RFC 9110 section 13.1.2. No ETag of ours
// holds a comma.
func matches(headers []string, etag string) bool {
	for _, header := range headers {
		for candidate := range strings.SplitSeq(header, ",") {
			candidate = strings.TrimSpace(candidate)
			if candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
				return true
			}
		}
	}
	return false
}
