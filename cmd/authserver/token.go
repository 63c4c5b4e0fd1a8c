package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"example.com/authserver/internal/account"
	"example.com/authserver/internal/app"
	"example.com/authserver/internal/audit"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/login"
	"example.com/authserver/internal/refresh"
	"example.com/authserver/internal/session"
	"example.com/authserver/internal/token"
	"example.com/authserver/verify"
)

type tokenCmd struct {
	Mint    tokenMint    `cmd:"" help:"Mint an access token for an account; it opens a session of that length."`
	Verify  tokenVerify  `cmd:"" help:"Verify an access token of this installation, its session too."`
	Inspect tokenInspect `cmd:"" help:"Show what a token says, without believing it."`
}

// ring reads the keys for one act of the command line.
func (e *environment) ring(in *app.Installation) (*keys.Ring, error) {
	ring := keys.NewRing(in.Engine.Keys(), in.Masters, e.config.Keys(), time.Now, nil)
	return ring, ring.Look(e.ctx)
}

// signingRing is ring for an act that signs: it does first what is urgent for that.
func (e *environment) signingRing(in *app.Installation) (*keys.Ring, error) {
	ring := keys.NewRing(in.Engine.Keys(), in.Masters, e.config.Keys(), time.Now, nil)
	return ring, ring.Start(e.ctx)
}

type tokenMint struct {
	User     string         `required:"" help:"E-mail address or id."`
	TTL      *time.Duration `name:"ttl" help:"Life of the token; access-ttl without it, which is also the most."`
	Audience []string       `name:"for" help:"Audience; the configured one without it."`
	Scope    string         `help:"Scope; that of a first-party login without it."`
	Admin    bool           `help:"For the admin API: the account must have the role admin."`
}

func (c *tokenMint) Run(e *environment) error {
	ttl := e.config.AccessTTL
	if c.TTL != nil {
		ttl = *c.TTL
	}
	if err := e.filled("for", c.Audience, "an audience"); err != nil {
		return err
	}
	// Keys stay published for as long as access tokens live, and no longer.
	if ttl < time.Second || ttl > e.config.AccessTTL {
		return usageError(fmt.Errorf("--ttl is %s; want 1s to %s, which is %s", ttl, e.config.AccessTTL, config.EnvName("access-ttl")))
	}
	return e.withUser(c.User, func(in *app.Installation, u account.User) error {
		if c.Admin && !slices.Contains(u.Roles, account.RoleAdmin) {
			return fail(exitConflict, fmt.Errorf("%s does not have the role %s", u.Email, account.RoleAdmin), "authserver users grant "+u.Email+" --role admin")
		}
		if !u.DisabledAt.IsZero() {
			return fail(exitConflict, fmt.Errorf("%s is disabled", u.Email), "authserver users enable "+u.Email)
		}
		ring, err := e.signingRing(in)
		if err != nil {
			return err
		}
		policy := e.config.Login()
		audience, scope := policy.Audience, policy.Scope
		switch {
		case c.Admin:
			audience = []string{policy.AdminAudience}
		case len(c.Audience) > 0:
			audience = c.Audience
		}
		if c.Scope != "" {
			scope = c.Scope
		}
		// A session of its own, so that the token can be seen and ended like any
		// other. Its refresh token is thrown away.
		sid := id.NewSession()
		family, _, err := refresh.Bear(ring, refresh.Birth{
			Session: sid, User: u.ID, Client: config.FirstParty, Scope: scope, Audience: audience,
			AMR: []string{"operator"}, Transport: refresh.InBody, Rotates: true, IdleTTL: ttl,
			Sender: refresh.SenderOf("", "authserver token mint"), UserAgent: "authserver token mint",
		})
		if err != nil {
			return err
		}
		if e.config.StatusLists() {
			if family.StatusIndex, err = in.Engine.Revocations().TakeIndexes(e.ctx, 1); err != nil {
				return err
			}
		}
		family, err = in.Engine.Logins().Open(e.ctx, login.Opening{
			Session: sid, Kind: session.Browser, DeviceName: "authserver token mint", AbsoluteTTL: ttl + time.Second,
			Family: family, CredentialVersion: u.CredentialVersion, Actor: e.actor(), RequestID: e.requestID(),
			Also: []audit.Event{{
				Kind:    audit.TokenMinted,
				Details: map[string]string{"audience": strings.Join(audience, " "), "scope": scope, "ttl": ttl.String()},
			}},
		})
		if errors.Is(err, login.ErrRefused) {
			return fail(exitConflict, err, "try again")
		}
		if err != nil {
			return err
		}
		minted, err := token.NewMinter(ring, e.config.Tokens()).MintFor(token.Grant{
			User: u.ID, Session: sid, Client: family.Client, Scope: scope, Audience: audience,
			AuthTime: family.AuthTime, AMR: family.AMR, Roles: u.Roles, Until: family.AbsoluteEnd, From: family.TokensFrom, StatusIndex: family.StatusIndex,
		}, family.BornAt, ttl)
		if err != nil {
			return err
		}
		if !e.json {
			e.say("session %s, valid until %s", sid, instant(minted.ExpiresAt))
			_, err := fmt.Fprintln(e.stdout, minted.Token.Reveal())
			return err
		}
		return e.print(map[string]any{
			"access_token": minted.Token.Reveal(), "token_type": "Bearer", "session_id": sid.String(),
			"expires_at": instant(minted.ExpiresAt), "expires_in": int(minted.ExpiresAt.Sub(minted.IssuedAt).Seconds()),
		}, nil)
	})
}

// readToken takes a token from the argument or, for -, from standard input;
// wanted says what is missing where neither has one.
func (e *environment) readToken(arg, wanted string) (string, error) {
	if arg != "-" {
		return e.whole(arg, wanted)
	}
	if e.keyboard != nil { // somebody would wait for a command that waits for them
		e.say("%s:", wanted)
	}
	line, err := bufio.NewReader(io.LimitReader(e.stdin, 1<<20)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return e.whole(line, wanted)
}

// whole takes off what comes along when a token is pasted. Nothing at all is what a script
// has in a variable that is not set: it names nothing.
func (*environment) whole(text, wanted string) (string, error) {
	text = strings.TrimSpace(text)
	if scheme, rest, found := strings.Cut(text, " "); found && strings.EqualFold(scheme, "Bearer") {
		text = strings.TrimSpace(rest)
	}
	if text == "" {
		return "", usageError(fmt.Errorf("no %s: want it as the argument or on standard input", wanted))
	}
	return text, nil
}

// accessToken is readToken for what a refresh token says nothing to.
func (e *environment) accessToken(arg string) (string, error) {
	text, err := e.readToken(arg, "token")
	if err == nil && strings.HasPrefix(text, refresh.Prefix) {
		err = fail(exitNotFound, errors.New("a refresh token, which has nothing to read in it; want an access token"), "authserver explain says what became of it")
	}
	return text, err
}

type tokenVerify struct {
	Token    string   `arg:"" default:"-" help:"The token; - is standard input."`
	Audience []string `name:"for" help:"Audience it must be for; the configured one without it."`
}

func (c *tokenVerify) Run(e *environment) error {
	if err := e.filled("for", c.Audience, "an audience"); err != nil {
		return err
	}
	text, err := e.accessToken(c.Token)
	if err != nil {
		return err
	}
	in, err := e.open(app.ToOperate)
	if err != nil {
		return err
	}
	defer in.Engine.Close()
	ring, err := e.ring(in)
	if err != nil {
		return err
	}
	audience := c.Audience
	if len(audience) == 0 {
		audience = e.config.Audiences()
	}
	claims, err := app.CheckToken(e.ctx, in, ring, audience, text)
	if errors.Is(err, verify.ErrAudience) {
		e.say("a token for another audience: authserver token verify --for AUDIENCE")
	}
	if errors.Is(err, app.ErrNotValid) {
		return e.negative(err.Error())
	}
	if err != nil {
		return err
	}
	return e.print(map[string]any{"valid": true, "sub": claims.Subject, "sid": claims.SessionID, "scope": claims.Scope, "expires_at": instant(claims.ExpiresAt)}, func() [][]string {
		return [][]string{{"valid"}, {"user", claims.Subject}, {"session", claims.SessionID}, {"scope", claims.Scope}, {"expires", instant(claims.ExpiresAt)}}
	})
}

// negative prints a refusal as the answer, with the exit code for it.
func (e *environment) negative(why string) error {
	if err := e.print(map[string]any{"valid": false, "reason": why}, func() [][]string { return [][]string{{why}} }); err != nil {
		return err
	}
	return errNegative
}

type tokenInspect struct {
	Token string `arg:"" default:"-" help:"The token; - is standard input."`
}

func (c *tokenInspect) Run(e *environment) error {
	text, err := e.accessToken(c.Token)
	if err != nil {
		return err
	}
	decoded := make([]map[string]any, len(jwtParts))
	for i := range jwtParts {
		if err := readPart(text, i, &decoded[i]); err != nil {
			return fail(exitNotFound, err, "")
		}
	}
	for _, claim := range []string{"exp", "iat", "auth_time"} {
		if n, ok := decoded[1][claim].(float64); ok {
			decoded[1][claim+"_at"] = instant(time.Unix(int64(n), 0))
		}
	}
	e.say("not verified: anybody can write this")
	return e.print(map[string]any{"header": decoded[0], "payload": decoded[1]}, func() [][]string {
		rows := [][]string{{"PART", "MEMBER", "VALUE"}}
		for i, part := range jwtParts {
			for _, name := range slices.Sorted(maps.Keys(decoded[i])) {
				value, ok := decoded[i][name].(string)
				if !ok {
					raw, err := json.Marshal(decoded[i][name])
					if err != nil {
						raw = []byte(err.Error())
					}
					value = string(raw)
				}
				rows = append(rows, []string{part, name, value})
			}
		}
		return rows
	})
}

// jwtParts are what can be read in a JWT, in their order.
var jwtParts = [...]string{"header", "payload"}

// readPart decodes one of jwtParts of a JWT that nobody has verified.
func readPart(jwt string, which int, into any) error {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return fmt.Errorf("not a signed JWT: %d parts separated by dots, want 3", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[which])
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return fmt.Errorf("not a JWT: its %s: %w", jwtParts[which], err)
	}
	return nil
}
