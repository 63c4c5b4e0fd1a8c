package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// prepare fills in the defaults and returns the client to use.
func (c *RemoteConfig) prepare() (*http.Client, error) {
	if err := checkExtra(c.Extra); err != nil {
		return nil, err
	}
	setDefault(&c.MaxAge, defaultMaxAge)
	setDefault(&c.MaxStale, max(defaultMaxStale, c.MaxAge))
	setDefault(&c.Timeout, defaultTimeout)
	switch {
	case c.MaxAge < fetchFloor:
		return nil, fmt.Errorf("MaxAge is %v, expected at least %v", c.MaxAge, fetchFloor)
	case c.MaxStale < c.MaxAge:
		return nil, fmt.Errorf("MaxStale is %v, expected at least MaxAge, %v", c.MaxStale, c.MaxAge)
	case c.Timeout < 0:
		return nil, fmt.Errorf("Timeout is %v, expected more than nothing", c.Timeout)
	}
	if err := checkService(c.Service); err != nil {
		return nil, err
	}
	return guarded(c.Client, c.URL, c.InsecureAllowHTTP)
}

// guarded returns a copy of client, or a client of its own, for requests to
// address: it follows few redirects and none into the open.
func guarded(theirs *http.Client, address string, insecure bool) (*http.Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if err := permits(u, insecure); err != nil {
		return nil, err
	}
	client := &http.Client{}
	if theirs != nil {
		*client = *theirs
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		client.Transport = t.Clone()
	}
	own := client.CheckRedirect
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > 3 {
			return errors.New("more than 3 redirects")
		}
		if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return fmt.Errorf("redirect from https to %s", req.URL.Scheme)
		}
		if err := permits(req.URL, insecure); err != nil {
			return err
		}
		if own != nil {
			return own(req, via)
		}
		return nil
	}
	return client, nil
}

// permits says whether keys and revocations may be fetched from u.
func permits(u *url.URL, insecure bool) error {
	switch {
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("URL is no https URL, expected one like https://auth.example.com/.well-known/jwks.json")
	case u.User != nil:
		return errors.New("URL has a user name or password, expected none")
	case u.Scheme == "http" && !insecure && !isLoopback(u.Hostname()):
		return fmt.Errorf("http to %s, where others could swap the answers: use https, or set InsecureAllowHTTP if you trust that network", u.Hostname())
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// userAgent is how requests name this package and the service around it, so
// that the server can tell who has fetched its newest keys.
func userAgent(service string) string {
	agent := "authserver-verify/" + Version
	if service != "" {
		agent += " (+" + service + ")"
	}
	return agent
}

// checkService refuses a name that would not stay one comment of a User-Agent
// (RFC 9110 section 5.6.5).
func checkService(name string) error {
	if len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '(' || r == ')' || r == '\\' }) {
		return fmt.Errorf("Service is %s, expected at most 64 visible ASCII characters without parentheses and backslash", brief(name))
	}
	return nil
}

// fetched is a good answer.
type fetched struct {
	keys        keyMap
	etag        string
	notModified bool
	fresh       time.Duration // time until the next fetch
}

// fetch asks once. With etag it may learn that nothing has changed; urgent
// asks the caches on the way to check with the server, since the key that we
// look for may be newer than they are.
func (r *Remote) fetch(timeout time.Duration, etag string, urgent bool) (got fetched, err error) {
	// A panic here, perhaps in the transport or in ParseKey of an Extra, would
	// end the whole process: nobody above us recovers.
	defer func() {
		if p := recover(); p != nil {
			got, err = fetched{}, fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(r.ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.c.URL, nil)
	if err != nil {
		return fetched{}, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", r.agent)
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	if urgent {
		req.Header.Set("Cache-Control", "no-cache")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fetched{}, err
	}
	defer resp.Body.Close()
	got.fresh = freshness(resp.Header, r.c.MaxAge)
	switch {
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusNotModified && etag != "":
		got.notModified = true
		return got, nil
	default:
		return fetched{}, fmt.Errorf("%s answers %s, expected 200 OK", r.c.URL, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err != nil {
		return fetched{}, fmt.Errorf("read the key set: %w", err)
	}
	keys, err := ParseJWKS(body, r.c.Extra...)
	if err != nil {
		return fetched{}, err
	}
	got.keys, got.etag = byID(keys), resp.Header.Get("ETag")
	return got, nil
}

// freshness is for how long an answer may be used (RFC 9111 section 4.2.1),
// within our bounds.
func freshness(h http.Header, most time.Duration) time.Duration {
	fresh := most
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-cache", "no-store":
			fresh = 0
		case "max-age":
			// What is no number of seconds counts as stale.
			seconds, _ := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			age, _ := strconv.ParseUint(h.Get("Age"), 10, 31) // spent in caches on the way
			fresh = min(fresh, time.Duration(seconds)*time.Second-time.Duration(age)*time.Second)
		}
	}
	return max(fresh, fetchFloor)
}
