package main

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"strconv"
	"time"

	"example.com/authserver/internal/app"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/id"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/secret"
)

// fleet is a great number of families whose tokens this process can make.
//
// The id of family i is the MD5 of the decimal i: as random as an id should
// be, and pgbench can name a random row without looking it up anywhere, since
// md5($1)::uuid costs half a microsecond. An id begins with the tag of its
// user, so the users are made to fit: one for each of the 65,536 tags, to whom
// all families with that tag belong, some fifteen each of a million.
//
// The secret of family i is the beginning of SHA-256(seed, i).
type fleet struct {
	root        root
	seed        string
	ids         [][16]byte // ids[0] is family 1
	generations []uint32   // of the heads; a client changes only its own families
	users       []id.User  // by tag
}

func newFleet(r root, families int) *fleet {
	f := &fleet{root: r, seed: rand.Text(), ids: make([][16]byte, families), generations: make([]uint32, families)}
	for n := range f.ids {
		f.ids[n] = md5.Sum(strconv.AppendInt(nil, int64(n+1), 10))
		f.generations[n] = 1
	}
	f.users = usersForEveryTag()
	return f
}

// secretOf returns the secret of the family at index n.
func (f *fleet) secretOf(n int) [16]byte {
	sum := sha256.Sum256(strconv.AppendInt([]byte(f.seed), int64(n+1), 10))
	return [16]byte(sum[:16])
}

// hashOf returns what a store keeps of that secret.
func (f *fleet) hashOf(n int) []byte {
	secret := f.secretOf(n)
	sum := sha256.Sum256(secret[:])
	return sum[:]
}

// userOf returns the user of the family at index n.
func (f *fleet) userOf(n int) id.User { return f.users[tagIndex([2]byte(f.ids[n][:2]))] }

func tagIndex(tag [2]byte) int { return int(tag[0])<<8 | int(tag[1]) }

// usersForEveryTag draws user ids until each tag has one: some 800,000 draws.
func usersForEveryTag() []id.User {
	users := make([]id.User, 1<<16)
	for missing := len(users); missing > 0; {
		u := id.NewUser()
		if slot := &users[tagIndex(id.Tag(u))]; slot.IsZero() {
			*slot = u
			missing--
		}
	}
	return users
}

// What every seeded family says, and the requests that refresh it.
const (
	firstParty = config.FirstParty
	scope      = "account"
	userAgent  = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
	idleTTL    = 720 * time.Hour
	sessionTTL = 2160 * time.Hour
)

// senderOf is the fingerprint of a sender without an install id.
func senderOf(agent string) []byte {
	sum := sha256.Sum256([]byte("agent:" + agent))
	return sum[:16]
}

// configFor returns the settings that a server started by startServer has.
func configFor(dataDir, databaseURL string) (*config.Config, error) {
	c, err := config.Defaults()
	if err != nil {
		return nil, err
	}
	c.Issuer, c.DataDir, c.DatabaseURL = issuer, dataDir, secret.NewText(databaseURL)
	return c, nil
}

// found makes the schema and the keys of an installation, as a first start
// does, and returns the refresh root key in force.
func found(ctx context.Context, dataDir, databaseURL string) (root, error) {
	c, err := configFor(dataDir, databaseURL)
	if err != nil {
		return root{}, err
	}
	in, err := app.Open(ctx, c, app.ToFound)
	if err != nil {
		return root{}, err
	}
	defer in.Engine.Close()
	ring := keys.NewRing(in.Engine.Keys(), in.Masters, c.Keys(), time.Now, nil)
	if err := ring.Start(ctx); err != nil {
		return root{}, err
	}
	number, key, err := ring.ActiveRoot()
	return root{number, key.Reveal()}, err
}
