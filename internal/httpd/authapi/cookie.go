package authapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
)

// jar knows the cookie that a refresh token travels in.
type jar struct {
	name   string
	secure bool
}

// jarFor derives the cookie from the issuer. On https the __Host- prefix binds
// it to this host and to TLS (RFC 6265bis section 4.1.3.2). On an http loopback
// issuer it has neither prefix nor Secure, because Safari drops Secure cookies
// there.
func jarFor(issuer string) jar {
	if strings.HasPrefix(issuer, "https://") {
		return jar{name: "__Host-refresh", secure: true}
	}
	return jar{name: "refresh"}
}

func (j jar) cookie(value string, maxAge int) string {
	c := http.Cookie{
		Name: j.name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: j.secure, SameSite: http.SameSiteStrictMode,
	}
	return c.String()
}

// put hands a refresh token to the browser. Only a remembered session outlives
// the browser's run; the others get no Max-Age.
func (j jar) put(w http.ResponseWriter, token secret.Text, keep time.Duration) {
	maxAge := 0
	if keep > 0 {
		maxAge = max(1, int(keep/time.Second))
	}
	w.Header().Add("Set-Cookie", j.cookie(token.Reveal(), maxAge))
}

// expire takes the cookie away. Only a logout does: a refusal or an outage that
// took cookies away would log out whoever was merely unlucky.
//
// There is no Clear-Site-Data: its "cookies" would wipe every cookie of the
// registrable domain, those of the app beside this server included.
func (j jar) expire(w http.ResponseWriter) {
	w.Header().Add("Set-Cookie", j.cookie("", -1))
}

// find returns the distinct values of the cookie, in the order they came.
func (j jar) find(r *http.Request) []secret.Text {
	if r.Header["Cookie"] == nil {
		return nil
	}
	var found []secret.Text
	for _, c := range r.CookiesNamed(j.name) {
		if c.Value == "" || contains(found, c.Value) {
			continue
		}
		found = append(found, secret.NewText(c.Value))
	}
	return found
}

func contains(list []secret.Text, value string) bool {
	for _, t := range list {
		if t.Reveal() == value {
			return true
		}
	}
	return false
}

// maxCookies is how many cookies of the one name are looked at.
const maxCookies = 4

// pick chooses among several cookies of the one name. With the __Host- prefix a
// browser holds one at most; on localhost another program may have set one for
// a longer path. Trying each by redeeming it could end an honest family, so
// they are only looked up: the one whose family lives is taken, the first if
// none does, and a request with several living ones is refused, because nobody
// could say whose it is.
func (d *Door) pick(ctx context.Context, found []secret.Text) (secret.Text, *refresh.Family, error) {
	if len(found) > maxCookies {
		return secret.Text{}, nil, fault.New(fault.InvalidRequest, "The request carries %d cookies named %q; want one.", len(found), d.jar.name)
	}
	var chosen secret.Text
	var family *refresh.Family
	for _, t := range found {
		f, err := d.Rotator.Living(ctx, t)
		if err != nil {
			return secret.Text{}, nil, err
		}
		switch {
		case f == nil:
		case family != nil:
			return secret.Text{}, nil, fault.New(fault.InvalidRequest, "The request carries several living cookies named %q; want one. Delete the cookies of this host.", d.jar.name)
		default:
			chosen, family = t, f
		}
	}
	if family == nil {
		chosen = found[0]
	}
	return chosen, family, nil
}

// presented returns the refresh token of a request and how it came.
func (d *Door) presented(r *http.Request) (secret.Text, refresh.Transport, error) {
	cookies := d.jar.find(r)
	var given secret.Text
	if len(cookies) == 0 {
		_, err := wire.ReadMaybe(r, wire.Optional(wire.Secret("refresh_token", &given)))
		if err == nil && given.IsEmpty() {
			err = fault.New(fault.RefreshInvalid, "No refresh token came, neither as {refresh_token} nor as the cookie %q.", d.jar.name).WithReason("no_token")
		}
		return given, refresh.InBody, err
	}
	if _, err := wire.ReadMaybe(r, wire.Optional(wire.Secret("refresh_token", &given))); err != nil {
		return secret.Text{}, "", err
	}
	if !given.IsEmpty() {
		return secret.Text{}, "", d.bothTransports()
	}
	if len(cookies) == 1 {
		return cookies[0], refresh.InCookie, nil
	}
	chosen, _, err := d.pick(r.Context(), cookies)
	return chosen, refresh.InCookie, err
}

func (d *Door) bothTransports() error {
	return fault.New(fault.InvalidRequest, "A refresh token came in the body and the cookie %q came, too; want one of them.", d.jar.name)
}
