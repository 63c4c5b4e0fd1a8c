package httpd

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// What a stranger writes into X-Forwarded-For says nothing. Behind a trusted
// proxy the client is the right-most address that is none of ours, or the peer.
func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{
		"", "203.0.113.5", "6.6.6.6, 203.0.113.5", "203.0.113.5, 10.0.0.1", ",,,", "203.0.113.5:80", "[2001:db8::1]:80", "::ffff:203.0.113.5", "unknown", "203.0.113.5, , 10.0.0.1",
		"fe80::1%eth0", strings.Repeat("1.2.3.4,", 2000), "203.0.113.5\t", "0x7f.1", "1.2.3", "010.1.1.1", `"203.0.113.5"`, "10.0.0.1", "10.0.0.1, 10.0.0.2",
	} {
		f.Add(seed, "10.0.0.9:1234")
		f.Add(seed, "198.51.100.7:1234")
	}
	ours := netip.MustParsePrefix("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, header, remote string) {
		s := &Server{config: Config{TrustedProxies: []netip.Prefix{ours}}, rooms: Rooms{Log: slog.New(slog.DiscardHandler)}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["X-Forwarded-For"], r.RemoteAddr = []string{header}, remote
		var client netip.Addr
		peer := peerOf(r)
		trusted := s.trusts(peer)
		s.forwarded()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { client = s.clientOf(r, peer, trusted) })).ServeHTTP(httptest.NewRecorder(), r)
		switch {
		case !trusted && client != peer:
			t.Fatalf("a stranger at %s wrote %q and counts as %s", peer, header, client)
		case trusted && client != peer:
			if !client.IsValid() || !strings.ContainsAny(header, "0123456789abcdefABCDEF:") {
				t.Fatalf("%q became %s", header, client)
			}
			rightmost(t, header, client, ours)
		}
	})
}

// rightmost fails unless every address to the right of the client is a proxy
// of ours.
func rightmost(t *testing.T, header string, client netip.Addr, ours netip.Prefix) {
	t.Helper()
	places := strings.Split(header, ",")
	for i := len(places) - 1; i >= 0; i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(places[i]))
		if err != nil {
			continue
		}
		addr = addr.Unmap().WithZone("")
		if addr == client {
			return
		}
		if !ours.Contains(addr) {
			t.Fatalf("%q became %s, but %s stands to the right of it", header, client, addr)
		}
	}
	t.Fatalf("%q became %s, which does not stand there", header, client)
}

// If-None-Match is answered with 304 for a list that holds the tag, and for no
// other.
func FuzzMatches(f *testing.F) {
	const etag = `"abc"`
	for _, seed := range []string{etag, "W/" + etag, "*", "", `"ab"`, `"x", "abc"`, `abc`, `"x""abc"`, " , ," + etag, `W/W/"abc"`, "**"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		found := matches([]string{header}, etag)
		if found && !strings.Contains(header, etag) && !strings.Contains(header, "*") {
			t.Fatalf("%q matches %s", header, etag)
		}
		if !matches([]string{header, etag}, etag) || !matches([]string{header + "," + etag}, etag) {
			t.Fatalf("%q hides the tag beside it", header)
		}
	})
}
