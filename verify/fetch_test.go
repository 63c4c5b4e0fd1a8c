package verify_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// served returns what a fetch from h comes to, over real sockets.
func served(t *testing.T, server *httptest.Server, path string, change func(*verify.RemoteConfig)) (*verify.Remote, verify.Fetch) {
	t.Helper()
	t.Cleanup(server.Close)
	heard := make(chan verify.Fetch, 100)
	c := verify.RemoteConfig{URL: server.URL + path, Client: server.Client(), OnFetch: func(f verify.Fetch) { heard <- f }}
	if change != nil {
		change(&c)
	}
	keys, err := verify.RemoteKeys(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	select {
	case f := <-heard:
		return keys, f
	case <-time.After(30 * time.Second):
		t.Fatal("no fetch came to an end")
		panic("unreachable")
	}
}

func TestRemoteKeys_overTheNetwork(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	body := jwks(t, i)
	keys, f := served(t, httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept"), "application/jwk-set+json") {
			t.Errorf("Accept is %q", r.Header.Get("Accept"))
		}
		w.Header().Set("Cache-Control", "public, max-age=120")
		_, _ = w.Write(body)
	})), "/jwks.json", nil)
	if f.Err != nil || f.Keys != 1 || f.NotModified || f.Next != 2*time.Minute {
		t.Errorf("OnFetch says %+v", f)
	}
	mustVerify(t, over(t, keys), fresh(t, i))
}

func TestRemoteKeys_refusedAnswers(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	body := jwks(t, i)
	for name, h := range map[string]http.HandlerFunc{
		"404":         http.NotFound,
		"500":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = w.Write(body) },
		"204":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		"304 unasked": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) },
		"silence":     func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9999")
			_, _ = w.Write(body)
		},
		"redirect to ftp": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "ftp://127.0.0.1/", http.StatusFound)
		},
		"redirect circle": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) },
		"redirect with a password": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://a:b@"+r.Host+"/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keys, f := served(t, httptest.NewTLSServer(h), "/jwks.json", func(c *verify.RemoteConfig) { c.Timeout = 500 * time.Millisecond })
			if f.Err == nil || f.Keys != 0 {
				t.Errorf("OnFetch says %+v", f)
			}
			if _, err := keys.Key(t.Context(), "k1"); !errors.Is(err, verify.ErrKeysUnavailable) {
				t.Errorf("Key says %v", err)
			}
		})
	}
}

func TestRemoteKeys_anEndlessAnswerIsCutOff(t *testing.T) {
	_, f := served(t, httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})), "/", func(c *verify.RemoteConfig) { c.Timeout = 20 * time.Second })
	if f.Err == nil || !strings.Contains(f.Err.Error(), "has 1048577 bytes") {
		t.Error(f.Err)
	}
}

// Not even to a good set on loopback: what began with https ends with it.
func TestRemoteKeys_noRedirectFromHTTPSToHTTP(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(jwks(t, newKey(t, "k1", "ES256")))
	}))
	defer plain.Close()
	server := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	_, f := served(t, server, "/", func(c *verify.RemoteConfig) { c.InsecureAllowHTTP = true })
	if f.Err == nil || f.Keys != 0 {
		t.Errorf("OnFetch says %+v", f)
	}
}

func TestRemoteKeys_followsARedirectWithinHTTPS(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	mux := http.NewServeMux()
	mux.Handle("/old", http.RedirectHandler("/new", http.StatusMovedPermanently))
	mux.HandleFunc("/new", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(jwks(t, i)) })
	if _, f := served(t, httptest.NewTLSServer(mux), "/old", nil); f.Err != nil {
		t.Error(f.Err)
	}
}

func TestRemoteKeys_theClientsOwnRulesForRedirectsStay(t *testing.T) {
	server := httptest.NewTLSServer(http.RedirectHandler("/new", http.StatusFound))
	never := errors.New("never")
	_, f := served(t, server, "/old", func(c *verify.RemoteConfig) {
		client := *server.Client()
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return never }
		c.Client = &client
	})
	if !errors.Is(f.Err, never) {
		t.Error(f.Err)
	}
}

func TestRemoteKeys_plainHTTPOnLoopbackOnly(t *testing.T) {
	i := newKey(t, "k1", "ES256")
	if _, f := served(t, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(jwks(t, i))
	})), "/", nil); f.Err != nil {
		t.Errorf("from loopback: %v", f.Err)
	}
	// From there no redirect leads into the open.
	_, f := served(t, httptest.NewServer(http.RedirectHandler("http://auth.example.com/jwks.json", http.StatusFound)), "/", nil)
	if f.Err == nil || !strings.Contains(f.Err.Error(), "InsecureAllowHTTP") {
		t.Errorf("redirect off loopback: %v", f.Err)
	}
}

func TestRemoteKeys_unusableConfigurations(t *testing.T) {
	good := verify.RemoteConfig{URL: "https://auth.example.com/jwks.json", Client: &http.Client{Transport: &publisher{down: true}}}
	for name, change := range map[string]func(*verify.RemoteConfig){
		"no URL":                   func(c *verify.RemoteConfig) { c.URL = "" },
		"a path":                   func(c *verify.RemoteConfig) { c.URL = "/jwks.json" },
		"no scheme":                func(c *verify.RemoteConfig) { c.URL = "auth.example.com/jwks.json" },
		"a file":                   func(c *verify.RemoteConfig) { c.URL = "file:///etc/jwks.json" },
		"no URL at all":            func(c *verify.RemoteConfig) { c.URL = "https://%zz" },
		"password in the URL":      func(c *verify.RemoteConfig) { c.URL = "https://a:b@auth.example.com/" },
		"http":                     func(c *verify.RemoteConfig) { c.URL = "http://auth.example.com/jwks.json" },
		"http to a private net":    func(c *verify.RemoteConfig) { c.URL = "http://10.0.0.1/jwks.json" },
		"http to a false loopback": func(c *verify.RemoteConfig) { c.URL = "http://localhost.example.com/jwks.json" },
		"http to 127.0.0.1.nip":    func(c *verify.RemoteConfig) { c.URL = "http://127.0.0.1.example.com/" },
		"MaxAge below the floor":   func(c *verify.RemoteConfig) { c.MaxAge = 29 * time.Second },
		"MaxStale below MaxAge":    func(c *verify.RemoteConfig) { c.MaxStale = time.Minute },
		"negative Timeout":         func(c *verify.RemoteConfig) { c.Timeout = -1 },
		"half an algorithm":        func(c *verify.RemoteConfig) { c.Extra = []verify.Algorithm{{Name: "X"}} },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			if keys, err := verify.RemoteKeys(c); err == nil {
				_ = keys.Close()
				t.Error("accepted")
			}
		})
	}
	for _, url := range []string{good.URL, "http://localhost:8080/j", "http://auth.localhost/j", "http://127.0.0.1/j", "http://127.9.9.9/j", "http://[::1]:8080/j"} {
		c := good
		c.URL = url
		keys, err := verify.RemoteKeys(c)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		_ = keys.Close()
	}
	good.URL, good.InsecureAllowHTTP = "http://authserver:8080/.well-known/jwks.json", true
	keys, err := verify.RemoteKeys(good)
	if err != nil {
		t.Fatalf("http to another container, allowed: %v", err)
	}
	_ = keys.Close()
}
