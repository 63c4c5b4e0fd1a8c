package refresh

import (
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/secret"
)

// Birth describes a family about to be born. The store sets the instants.
type Birth struct {
	Session   id.Session
	User      id.User
	Client    string
	Scope     string
	Audience  []string
	AMR       []string
	Binding   Binding
	Transport Transport
	Rotates   bool
	// Remembered as in Family.
	Remembered bool
	IdleTTL    time.Duration
	Sender     Sender
	UserAgent  string
	IP         string
}

// Bear makes a family of generation 1 and its first token, under the active
// root key. AuthTime, BornAt, HeadBorn, UsedAt and AbsoluteEnd are left zero:
// they are of the store's clock. An error is trouble.
func Bear(roots Roots, b Birth) (Family, secret.Text, error) {
	number, root, err := roots.ActiveRoot()
	if err != nil {
		return Family{}, secret.Text{}, err
	}
	t := Token{
		family:     id.NewFamily(b.User),
		generation: 1,
		key:        number,
		secret:     [16]byte(secret.Random(16).Reveal()),
	}
	return Family{
		ID: t.family, Session: b.Session, User: b.User, Client: b.Client,
		SecretHash: t.SecretHash(), Scope: b.Scope, Audience: b.Audience, AMR: b.AMR,
		Binding: b.Binding, Transport: b.Transport, Rotates: b.Rotates, Remembered: b.Remembered, IdleTTL: b.IdleTTL,
		UserAgent: b.UserAgent, IP: b.IP, Sender: b.Sender,
		Generation: 1, HeadKey: number,
	}, secret.NewText(t.spell(root)), nil
}
