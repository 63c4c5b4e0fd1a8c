package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/authserver/internal/httpd/wire"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/verify"
)

// ErrNotValid says that an access token is not to be believed, and why.
var ErrNotValid = errors.New("not valid")

// CheckToken does with an access token what a bearer endpoint does: it verifies
// it and reads its session in the store. An error that is ErrNotValid is the
// answer; any other one is trouble.
func CheckToken(ctx context.Context, in *Installation, ring *keys.Ring, audience []string, text string) (*verify.Claims, error) {
	verifier, err := wire.NewVerifier(ring, in.Config.Issuer, audience)
	if err != nil {
		return nil, err
	}
	claims, err := verifier.Verify(ctx, text)
	if errors.Is(err, verify.ErrKeysUnavailable) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotValid, err)
	}
	if now := ring.Now(); !now.Before(claims.ExpiresAt) { // by the store's clock, without leeway
		return nil, fmt.Errorf("%w: expired at %s, %s ago", ErrNotValid, claims.ExpiresAt.UTC().Format(time.RFC3339), now.Sub(claims.ExpiresAt).Round(time.Second))
	}
	var sid id.Session
	var uid id.User
	if err := errors.Join(sid.UnmarshalText([]byte(claims.SessionID)), uid.UnmarshalText([]byte(claims.Subject))); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotValid, err)
	}
	standing, err := in.Engine.Sessions().Standing(ctx, sid, uid, in.Config.Refresh(claims.ClientID))
	if err != nil {
		return nil, err
	}
	if !standing.Alive {
		return nil, fmt.Errorf("%w: its session has ended (%s)", ErrNotValid, standing.Why)
	}
	return claims, nil
}
