package revocation

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"example.com/authserver/internal/fault"
)

// The Token Status List (draft-ietf-oauth-status-list-20) is the feed in a form
// that verifiers of other makers know: one bit for each session, set while an
// entry of the feed says that the session ended.

// ListType is the typ header of a status list token.
const ListType = "statuslist+jwt"

// ListSize is how many sessions share a list: enough that a fetched list tells
// nobody whose token is being checked.
const ListSize = 1 << 17

const (
	// ListTTL is how long a verifier may keep a list before it asks again.
	ListTTL = 30 * time.Second
	// listLife is how long a list counts when it cannot be fetched anew.
	listLife = time.Hour
)

// Place is where the status of a session's tokens stands.
type Place struct {
	Index int64  `json:"idx"`
	URI   string `json:"uri"`
}

// PlaceOf returns the place of a status index, which counts from 1 through all
// lists.
func PlaceOf(issuer string, index int64) Place {
	return Place{Index: index % ListSize, URI: listURI(issuer, index/ListSize)}
}

func listURI(issuer string, list int64) string {
	return issuer + "/v1/status/" + strconv.FormatInt(list, 10)
}

// ListClaims are the claims of a status list token.
type ListClaims struct {
	Issuer    string     `json:"iss"`
	Subject   string     `json:"sub"` // the list's URI
	IssuedAt  int64      `json:"iat"` // as in Claims
	ExpiresAt int64      `json:"exp"`
	TTL       int64      `json:"ttl"` // seconds
	List      StatusList `json:"status_list"`
}

// StatusList is the list itself.
type StatusList struct {
	Bits int    `json:"bits"` // of one token
	List string `json:"lst"`  // see spellList
}

// SignedList is a list as it is published.
type SignedList struct {
	JWS  []byte // as of a statement
	ETag string // weak, as of a statement
}

// ErrNoList says that no token can name that list.
var ErrNoList = errors.New("no such status list")

// List returns a status list, signed. Equal questions of one second are signed
// once. Errors are ErrNoList or trouble (503).
func (f *Feed) List(list int64) (SignedList, error) {
	// Another node may have begun the next list a moment ago.
	if !f.policy.StatusLists || list < 0 || list > (f.indexes.Load()+indexBlock)/ListSize {
		return SignedList{}, ErrNoList
	}
	readAt := f.readAt.Load()
	if readAt == 0 {
		return SignedList{}, fault.Trouble(errNeverRead)
	}
	s, iat := f.current.Load(), time.Unix(0, readAt).Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age(iat)
	if l, ok := s.lists[list]; ok {
		return l, nil
	}
	bits := make([]byte, ListSize/8)
	for _, e := range living(s.entries, iat) {
		if e.Index > 0 && e.Index/ListSize == list {
			at := e.Index % ListSize
			bits[at/8] |= 1 << (at % 8) // section 4.1: from the least significant bit on
		}
	}
	lst, err := spellList(bits)
	if err != nil {
		return SignedList{}, err
	}
	uri := listURI(f.policy.Issuer, list)
	jws, err := sign(f.signing, ListType, &ListClaims{
		Issuer: f.policy.Issuer, Subject: uri, IssuedAt: iat, ExpiresAt: iat + int64(listLife/time.Second),
		TTL: int64(ListTTL / time.Second), List: StatusList{Bits: 1, List: lst},
	})
	if err != nil {
		return SignedList{}, err
	}
	sum := sha256.New()
	sum.Write(bits)
	sum.Write([]byte(uri))
	l := SignedList{JWS: jws, ETag: `W/"` + hex.EncodeToString(sum.Sum(nil)[:12]) + `"`}
	s.lists[list] = l
	return l, nil
}

// spellList compresses a list, DEFLATE in the ZLIB format, and spells it as
// base64url without padding.
func spellList(bits []byte) (string, error) {
	var packed bytes.Buffer
	w, err := zlib.NewWriterLevel(&packed, zlib.BestCompression)
	if err == nil {
		_, err = w.Write(bits)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("compress a status list: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(packed.Bytes()), nil
}

// indexBlock is how many indexes a node takes at once.
const indexBlock = 1024

// IndexStore keeps the counter of the status indexes.
type IndexStore interface {
	// TakeIndexes returns the first of n indexes in a row, from 1 on, that nobody
	// was given and nobody will be given again.
	TakeIndexes(ctx context.Context, n int) (first int64, err error)
}

// Indexes hands out status indexes, in no order that would tell who came before
// whom. A process that ends wastes what is left of its block. It is safe for
// concurrent use.
type Indexes struct {
	store IndexStore
	mu    sync.Mutex
	left  []int64
}

// NewIndexes returns an empty supply.
func NewIndexes(store IndexStore) *Indexes { return &Indexes{store: store} }

// Take returns an index that nobody else has. An error is trouble.
func (x *Indexes) Take(ctx context.Context) (int64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.left) == 0 {
		first, err := x.store.TakeIndexes(ctx, indexBlock)
		if err != nil {
			return 0, fmt.Errorf("take a block of status indexes: %w", err)
		}
		for n := range int64(indexBlock) {
			x.left = append(x.left, first+n)
		}
		rand.Shuffle(len(x.left), func(i, j int) { x.left[i], x.left[j] = x.left[j], x.left[i] })
	}
	last := x.left[len(x.left)-1]
	x.left = x.left[:len(x.left)-1]
	return last, nil
}
