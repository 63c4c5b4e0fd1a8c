package httpd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/authserver/internal/httpd"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// slowBody is a body whose end a test decides on.
func slowBody() (io.Reader, *io.PipeWriter) {
	r, w := io.Pipe()
	return r, w
}

func TestServe_drainsWithoutCuttingAnybodyOff(t *testing.T) {
	h := onOne(t, with(func(c *httpd.Config) { c.DrainDelay = 3 * time.Second }))
	h.register("ada@example.com")
	public, operations := listen(t), listen(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, public, operations) }()
	base, ops := "http://"+public.Addr().String(), "http://"+operations.Addr().String()
	client := &http.Client{Transport: &http.Transport{}}
	get := func(url string) (*http.Response, error) {
		resp, err := client.Get(url)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return resp, err
	}
	if resp, err := get(base + "/"); err != nil || resp.StatusCode != 200 || resp.Close {
		t.Fatalf("before: %v %v", resp, err)
	}

	// A login that is under way all the time.
	body, rest := slowBody()
	type result struct {
		status int
		err    error
	}
	slow := make(chan result, 1)
	begun := make(chan struct{})
	go func() {
		r, _ := http.NewRequest("POST", base+"/v1/login", body)
		r.Header.Set("Content-Type", "application/json")
		close(begun)
		resp, err := (&http.Client{Transport: &http.Transport{}}).Do(r)
		if err != nil {
			slow <- result{err: err}
			return
		}
		resp.Body.Close()
		slow <- result{status: resp.StatusCode}
	}()
	<-begun
	if _, err := rest.Write([]byte(`{"email":"ada@example.com",`)); err != nil {
		t.Fatal(err)
	}

	stop()
	h.told("drain_began")
	if resp, err := get(ops + "/readyz"); err != nil || resp.StatusCode != 503 {
		t.Errorf("readyz while draining: %v %v", resp, err)
	}
	if resp, err := get(ops + "/livez"); err != nil || resp.StatusCode != 200 {
		t.Errorf("livez while draining: %v %v", resp, err)
	}
	resp, err := get(base + "/.well-known/jwks.json")
	if err != nil || resp.StatusCode != 200 || !resp.Close {
		t.Errorf("a request while draining: %v %v; want 200 and Connection: close", resp, err)
	}
	for err == nil { // until the listener is closed
		<-time.After(10 * time.Millisecond)
		_, err = get(base + "/")
	}
	select {
	case err := <-served:
		t.Fatalf("Serve returned %v while a request was under way", err)
	default:
	}
	if _, err := rest.Write([]byte(`"password":"` + goodWord + `"}`)); err != nil {
		t.Fatal(err)
	}
	_ = rest.Close()
	if got := <-slow; got.err != nil || got.status != 200 {
		t.Errorf("the request that was under way: %+v", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestServe_givesUpOnARequestThatNeverEnds(t *testing.T) {
	h := onOne(t, with(func(c *httpd.Config) { c.DrainBound = 50 * time.Millisecond }))
	public := listen(t)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, public, nil) }()
	conn, err := net.Dial("tcp", public.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 64)
	n, err := conn.Read(buffer)
	if err != nil || !strings.HasPrefix(string(buffer[:n]), "HTTP/1.1 100") {
		t.Fatalf("%q %v", buffer[:n], err)
	}
	stop()
	if err := <-served; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Serve: %v", err)
	}
}

func TestServe_aListenerThatFailsEndsIt(t *testing.T) {
	h := onOne(t)
	public := listen(t)
	_ = public.Close()
	if err := h.server.Serve(t.Context(), public, listen(t)); err == nil {
		t.Error("want the listener's error")
	}
}
