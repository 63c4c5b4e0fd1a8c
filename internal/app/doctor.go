package app

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"example.com/authserver/internal/config"
	"example.com/authserver/internal/keys"
)

// Remark is one thing that doctor looked at.
type Remark struct {
	Check    string `json:"check"`
	State    string `json:"state"` // ok, warning or error
	Seen     string `json:"seen"`
	Expected string `json:"expected,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// The states of a remark.
const (
	Fine    = "ok"
	Warning = "warning"
	Grave   = "error"
)

// Examination gathers remarks.
type Examination struct{ Remarks []Remark }

func (x *Examination) fine(check, seen string) {
	x.Remarks = append(x.Remarks, Remark{Check: check, State: Fine, Seen: seen})
}

func (x *Examination) remark(state, check, seen, expected, hint string) {
	x.Remarks = append(x.Remarks, Remark{check, state, seen, expected, hint})
}

// Worst returns the gravest state.
func (x *Examination) Worst() string {
	worst := Fine
	for _, r := range x.Remarks {
		if r.State == Grave || r.State == Warning && worst == Fine {
			worst = r.State
		}
	}
	return worst
}

// ExamineSettings looks at each setting alone.
func (x *Examination) ExamineSettings(c *config.Config) {
	problems := c.Check()
	for _, p := range problems {
		x.remark(Grave, p.Setting, p.Seen, p.Expected, p.Hint)
	}
	if len(problems) == 0 {
		x.fine("settings", "every value is in its range")
	}
}

// ExamineIssuer remarks on an issuer that the database alone names: commands take it from
// there, and a server does not start without the setting. set is what was set here, or "":
// commands take the default for nothing even where somebody wrote it down, and a server does
// not. fits is false where what was set is another issuer.
func (x *Examination) ExamineIssuer(c *config.Config, set string) (fits bool) {
	if set == c.Issuer || set == "" && c.Issuer == config.DefaultIssuer {
		return true
	}
	state, seen := Grave, config.EnvName("issuer")+" is "+set
	if set == "" {
		state, seen = Warning, config.EnvName("issuer")+" is not set here"
	}
	x.remark(state, "issuer", seen+", and this database was made for "+c.Issuer, "the setting wherever a server starts", config.EnvName("issuer")+"="+c.Issuer)
	return set == ""
}

// ExamineSite looks at what browsers and proxies make of the issuer: cookies, CORS,
// addresses.
func (x *Examination) ExamineSite(c *config.Config) {
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Host == "" {
		return
	}
	x.cookies(c, issuer)
	x.proxies(c, issuer)
}

// cookies checks what the cookie transport needs: app and issuer on one site,
// because the cookie is SameSite=Strict.
func (x *Examination) cookies(c *config.Config, issuer *url.URL) {
	name := "__Host-refresh (Secure, HttpOnly, SameSite=Strict)"
	if issuer.Scheme == "http" {
		name = "refresh (without Secure, because Safari drops Secure cookies on http loopback)"
	}
	x.fine("cookie", name)
	if len(c.AllowedOrigins) == 0 {
		x.fine("cors", "no allowed origins: only pages of the issuer itself may call with credentials")
		return
	}
	for _, origin := range c.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" {
			continue
		}
		switch {
		case u.Scheme != issuer.Scheme:
			x.remark(Warning, "cookie", fmt.Sprintf("app %s and issuer %s differ in scheme", origin, c.Issuer), "the same scheme",
				"browsers treat http and https as different sites: the refresh cookie will not be sent; use the body transport for this app")
		case site(u.Hostname()) != site(issuer.Hostname()):
			x.remark(Warning, "cookie", fmt.Sprintf("app %s and issuer %s are different sites", origin, c.Issuer), "both under "+site(issuer.Hostname()),
				"a SameSite=Strict cookie is not sent across sites; put both under one domain or use the body transport for this app")
		default:
			x.fine("cors", origin+" may call with credentials and gets the cookie")
		}
	}
}

// site is the registrable domain that browsers compare.
func site(host string) string {
	if net.ParseIP(host) != nil {
		return host
	}
	if domain, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return domain
	}
	return host
}

func (x *Examination) proxies(c *config.Config, issuer *url.URL) {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return
	}
	behind := issuer.Scheme == "https" // this server does not speak TLS itself
	switch {
	case behind && len(c.TrustedProxies) == 0:
		x.remark(Warning, "proxy", "the issuer is https, so there is a proxy with TLS before this server, but no proxy is trusted",
			config.EnvName("trusted-proxies")+" with the proxy's network",
			"without it every client has the proxy's address: throttling and the session list see one network")
	case behind && config.IsLoopback(host):
		x.fine("proxy", fmt.Sprintf("listening on %s for a proxy on this host", c.Addr))
	case !behind && !config.IsLoopback(host) && host != "":
		x.remark(Warning, "address", fmt.Sprintf("listening on %s with the issuer %s", c.Addr, c.Issuer), "a loopback address or an https issuer",
			"others can reach this server, but tokens name an issuer that only this host can reach")
	default:
		x.fine("proxy", fmt.Sprintf("listening on %s, issuer %s", c.Addr, c.Issuer))
	}
}

// ExamineInstallation looks at the database, the keys, the clock and the pool.
func (x *Examination) ExamineInstallation(ctx context.Context, in *Installation) {
	findings, err := in.Engine.Doctor(ctx)
	if err != nil {
		x.remark(Grave, "database", err.Error(), "an answer", "")
		return
	}
	for _, f := range findings {
		state := Warning
		if f.Grave {
			state = Grave
		}
		x.remark(state, "database: "+f.Setting, f.Seen, f.Expected, f.Hint)
	}
	if len(findings) == 0 {
		x.fine("database", in.Engine.Name()+" has fitting settings")
	}
	if pool := in.Engine.Pool(); pool.ServerMax > 0 && pool.Max > pool.ServerMax/2 {
		x.remark(Warning, "pool", fmt.Sprintf("this node may open %d connections of the database's %d", pool.Max, pool.ServerMax),
			"room for every node and for operators", "lower "+config.EnvName("database-conns")+" or raise max_connections")
	}
	begun := time.Now()
	ring, err := in.Engine.Keys().ReadRing(ctx)
	if err != nil {
		x.remark(Grave, "keys", err.Error(), "a readable key ring", "")
		return
	}
	offset := ring.StoreNow.Sub(begun.Add(time.Since(begun) / 2))
	if offset.Abs() > 2*time.Second {
		x.remark(Grave, "clock", fmt.Sprintf("this host is %s off the database", offset.Round(time.Millisecond)), "less than 2s",
			"a node more than 5s off is not ready; check the time service of both hosts")
	} else {
		x.fine("clock", fmt.Sprintf("%s off the database", offset.Round(time.Millisecond)))
	}
	if ring.Fresh() {
		x.remark(Warning, "keys", "no keys yet", "keys, made by the first start of the server", "authserver serve")
	} else {
		x.fine("keys", fmt.Sprintf("revision %d, sealed under master key %s", ring.Revision, ring.MasterID))
	}
	x.masterKeyFile(in)
}

// masterKeyFile looks at the file in the data directory and says which master
// key counts: a configured one does, whatever the file holds.
func (x *Examination) masterKeyFile(in *Installation) {
	path := in.Config.MasterKeyPath()
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		x.remark(Grave, "master key", fmt.Sprintf("%s has mode %04o", path, info.Mode().Perm()), "0600", "chmod 600 "+path)
		return
	}
	where := "AUTHSERVER_MASTER_KEY"
	if in.Config.MasterKey.IsEmpty() {
		where, _ = filepath.Abs(path)
	}
	x.fine("master key", keys.IDOf(in.Masters.Current).String()+" in "+where)
}

// ExaminePublic asks for the key set under the issuer's URL, as every verifier
// does, and compares it with the database's. kids are the keys that every node should
// list by now.
func (x *Examination) ExaminePublic(ctx context.Context, c *config.Config, kids []string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	at := c.Issuer + "/.well-known/jwks.json"
	status, body, header, err := get(ctx, at)
	var unknown *net.DNSError
	var wrongTLS *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown):
		x.remark(Grave, "issuer", err.Error(), "a host name that resolves", "is "+config.EnvName("issuer")+" the public name? in a container, localhost is the container itself")
		return
	case errors.As(err, &wrongTLS):
		x.remark(Grave, "issuer", err.Error(), "a certificate that this host trusts", "")
		return
	case err != nil:
		x.remark(Warning, "issuer", err.Error(), at+" answers", "is the server running, and does the proxy pass "+c.Issuer+" on to "+c.Addr+"?")
		return
	case status != http.StatusOK:
		x.remark(Grave, "issuer", fmt.Sprintf("%s answers %d", at, status), "200", "does the proxy pass the whole path on?")
		return
	}
	for _, kid := range kids {
		if !strings.Contains(string(body), kid) {
			x.remark(Grave, "issuer", at+" does not list key "+kid, "the key set of this database", "another server answers there, or a proxy caches for too long")
			return
		}
	}
	if len(kids) == 0 {
		x.remark(Warning, "issuer", "no key of this database has reached every node for certain, and nothing was compared with "+at, "keys that are seconds old", "ask again in some seconds")
	} else {
		x.fine("issuer", at+" lists the keys of this database")
	}
	if at := header.Get("Date"); at != "" {
		if t, err := http.ParseTime(at); err == nil && time.Since(t).Abs() > 5*time.Second {
			x.remark(Warning, "clock", fmt.Sprintf("the public URL answers with Date %s, %s off", at, time.Since(t).Round(time.Second)), "this host's time", "")
		}
	}
}

// Live asks the operations listener of the server on this host whether it is
// ready, for container health checks.
func Live(ctx context.Context, c *config.Config) (ready bool, detail string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	host, port, err := net.SplitHostPort(c.AdminAddr)
	if err != nil {
		return false, "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	status, body, _, err := get(ctx, "http://"+net.JoinHostPort(host, port)+"/readyz?verbose")
	if err != nil {
		return false, "", err
	}
	var compact any
	if json.Unmarshal(body, &compact) == nil {
		if b, err := json.Marshal(compact); err == nil {
			body = b
		}
	}
	return status == http.StatusOK, strings.TrimSpace(string(body)), nil
}

func get(ctx context.Context, url string) (status int, body []byte, header http.Header, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("User-Agent", keys.OwnAgent)
	// Redirects are answers here: whoever redirects the key set breaks verifiers.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, resp.Header, err
}
