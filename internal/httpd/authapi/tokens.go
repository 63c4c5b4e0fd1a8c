package authapi

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/spell"
	"example.com/authserver/internal/token"
)

// The grants and token types, as metrics name them.
const (
	byLogin   = "login"
	byRefresh = "refresh"
	access    = "access"
	rotating  = "refresh"
)

// canSign returns the algorithm that an access token made now would have. It is
// asked before a refresh token is used up: a node that may not sign answers 503
// and leaves everything as it was.
func (d *Door) canSign() (alg string, err error) {
	_, method, _, err := d.Ring.Signer("")
	if err != nil {
		return "", err
	}
	return method.Alg(), nil
}

// answer is what a login or a refresh hands out.
type answer struct {
	grant   string
	alg     string
	family  *refresh.Family
	token   secret.Text // the refresh token
	idleEnd time.Time
	now     time.Time // the store's clock
}

// hand mints the access token and answers. What came before is committed: if
// the signing fails now, the client gets 503 and tries again with the token it
// holds, which is answered as a retry.
func (d *Door) hand(s *wire.Scope, w http.ResponseWriter, a answer) error {
	f := a.family
	s.Subject, s.Session, s.Family = f.User.String(), f.Session.String(), f.ID.String()
	begun := time.Now()
	minted, err := d.Minter.Mint(token.Grant{
		User: f.User, Session: f.Session, Client: f.Client, Scope: f.Scope, Audience: d.audienceOf(f),
		AuthTime: f.AuthTime, AMR: f.AMR, Roles: f.Roles, Until: f.AbsoluteEnd, From: f.TokensFrom, StatusIndex: f.StatusIndex,
	}, a.now)
	if err != nil {
		return err
	}
	d.Observer.Signed(a.alg, time.Since(begun))
	d.Observer.Issued(a.grant, access, a.alg)
	d.Observer.Issued(a.grant, rotating, "")
	if f.Transport == refresh.InCookie {
		var keep time.Duration
		if f.Remembered {
			keep = f.AbsoluteEnd.Sub(a.now)
		}
		d.jar.put(w, a.token, keep)
	}
	buffer := answers.Get().(*[]byte)
	*buffer = appendTokens((*buffer)[:0], minted, a)
	wire.WriteRaw(w, http.StatusOK, *buffer)
	clear(*buffer)
	answers.Put(buffer)
	return nil
}

// audienceOf returns whom tokens of a family are for. A family says so since its
// birth, but those of the reserved client belong to this installation: when its
// issuer or its audiences are changed, a session that kept the former ones would
// refresh for months and be refused everywhere. So they get those of today, but
// for a session that was begun for the admin API, which keeps it as long as it
// has that name.
func (d *Door) audienceOf(f *refresh.Family) []string {
	if len(f.Audience) == 1 && f.Audience[0] == d.AdminAudience {
		return f.Audience
	}
	return d.Audience
}

var answers = sync.Pool{New: func() any {
	b := make([]byte, 0, 2048)
	return &b
}}

// appendTokens spells the answer. In cookie mode no body holds a refresh token.
func appendTokens(b []byte, m token.Minted, a answer) []byte {
	b = append(b, `{"access_token":`...)
	b = spell.String(b, m.Token.Reveal())
	b = append(b, `,"token_type":"Bearer","expires_in":`...)
	b = strconv.AppendInt(b, wire.WholeSeconds(m.IssuedAt, m.ExpiresAt), 10)
	if a.family.Transport != refresh.InCookie {
		b = append(b, `,"refresh_token":`...)
		b = spell.String(b, a.token.Reveal())
	}
	b = append(b, `,"refresh_expires_in":`...)
	b = strconv.AppendInt(b, wire.WholeSeconds(a.now, a.idleEnd), 10)
	b = append(b, `,"session_id":"`...)
	b = append(b, a.family.Session.String()...)
	b = append(b, `","session_expires_at":"`...)
	b = wire.Instant(a.family.AbsoluteEnd).Append(b)
	b = append(b, `","idle_expires_at":"`...)
	b = wire.Instant(a.idleEnd).Append(b)
	b = append(b, `","scope":`...)
	b = spell.String(b, a.family.Scope)
	return append(b, '}', '\n')
}
