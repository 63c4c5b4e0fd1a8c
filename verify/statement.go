package verify

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	// maxStatement bounds a statement as it is sent: maxEntries of them in
	// base64url.
	maxStatement = 16 << 20
	maxEntries   = 100_000

	maxNumber = 1<<53 - 1 // what JSON's other readers can count to
)

var feedStatement = kind{"revocations+jwt", maxStatement}

// statement is what the feed says at a time: everything in force, or, with an
// `after`, what came after that number.
type statement struct {
	issued     int64 // seconds since 1970
	seq, after int64
	partial    bool // the server left ends of sessions out
	entries    []listed
}

type listed struct {
	mark mark
	revocation
}

// statement returns what raw says if it is a statement of issuer, properly
// signed and in order in itself.
func (t *trust) statement(ctx context.Context, raw, issuer string, now time.Time) (*statement, error) {
	o, err := t.open(ctx, raw, feedStatement)
	if err != nil {
		return nil, err
	}
	said, st, err := parseStatement(o.payload)
	if err != nil {
		return nil, err
	}
	if said != issuer {
		return nil, fmt.Errorf("%w: iss is %s, expected %q", ErrIssuer, brief(said), issuer)
	}
	if st.issued > now.Add(maxLeeway).Unix() {
		return nil, fmt.Errorf("%w: iat is %s, it is %s", ErrNotYetValid, stamp(time.Unix(st.issued, 0)), stamp(now))
	}
	return st, nil
}

func parseStatement(payload []byte) (issuer string, st *statement, err error) {
	st = &statement{}
	missing := map[string]bool{"iss": true, "iat": true, "seq": true, "after": true, "entries": true}
	var entries []byte
	err = members(payload, func(name, value []byte) (err error) {
		delete(missing, string(name))
		switch string(name) {
		case "iss":
			issuer, err = text(value)
		case "iat":
			st.issued, err = number(value)
		case "seq":
			st.seq, err = number(value)
		case "after":
			st.after, err = number(value)
		case "partial":
			st.partial, err = truth(value)
		case "entries":
			entries = value
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return "", nil, fmt.Errorf("%w: statement: %w", ErrMalformed, err)
	}
	for _, name := range []string{"iss", "iat", "seq", "after", "entries"} {
		if missing[name] {
			return "", nil, fmt.Errorf("%w: %s is missing", ErrClaims, name)
		}
	}
	if st.seq < st.after {
		return "", nil, fmt.Errorf("%w: seq is %d, after is %d", ErrClaims, st.seq, st.after)
	}
	if err := st.list(entries); err != nil {
		return "", nil, fmt.Errorf("%w: entries: %w", ErrClaims, err)
	}
	return issuer, st, nil
}

// list reads the entries. Those of kinds that a later server may have are left
// out: they are about nothing that this reader knows.
func (st *statement) list(value []byte) error {
	last := st.after
	return elements(value, func(element []byte) error {
		kind, l, err := parseListed(element)
		switch {
		case err != nil:
			return err
		case l.seq <= last || l.seq > st.seq:
			return fmt.Errorf("number %d after %d, expected ascending ones up to %d", l.seq, last, st.seq)
		}
		last = l.seq
		switch kind {
		case ofKey:
			l.key = true
		case ofSession, ofGrant:
			l.session = true
		case ofUser, ofClient, ofAll:
		default:
			return nil
		}
		st.entries = append(st.entries, l)
		return nil
	})
}

func parseListed(element []byte) (kind string, l listed, err error) {
	if element[0] != '{' {
		return "", l, errNoObject
	}
	var id string
	err = members(element, func(name, value []byte) (err error) {
		switch string(name) {
		case "seq":
			l.seq, err = number(value)
		case "kind":
			kind, err = text(value)
		case "id":
			id, err = text(value)
		case "not_before":
			l.notBefore, err = number(value)
		case "until":
			l.until, err = number(value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return "", l, err
	case l.seq == 0 || kind == "" || id == "" || l.notBefore == 0 || l.until == 0:
		return "", l, errors.New("seq, kind, id, not_before or until is missing")
	}
	raw, err := decode(id)
	if err != nil || len(raw) != len(l.mark) || len(id) != base64url.EncodedLen(len(l.mark)) {
		return "", l, fmt.Errorf("id is %s, expected %d bytes in base64url", brief(id), len(l.mark))
	}
	copy(l.mark[:], raw)
	return kind, l, nil
}

// truth reads a JSON boolean.
func truth(value []byte) (bool, error) {
	switch string(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("%s is neither true nor false", brief(string(value)))
	}
}

// number reads a whole number from 0 to 2^53-1, written without fraction or
// exponent.
func number(value []byte) (int64, error) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n < 0 || n > maxNumber {
		return 0, fmt.Errorf("%s is no whole number from 0 to 2^53-1", brief(string(value)))
	}
	return n, nil
}
