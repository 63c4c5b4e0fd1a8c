package sqlite

import (
	"context"
	"time"

	"example.com/authserver/internal/revocation"
)

// Revocations implements revocation.Store.
type Revocations struct{ db *DB }

// Read implements revocation.Store. Entries have their number from their
// transaction: transactions follow each other.
func (s Revocations) Read(ctx context.Context, after int64, limit int) (page revocation.Page, err error) {
	err = s.db.snapshot(ctx, "revocation.read", func(c *conn) error {
		page = revocation.Page{Now: s.db.now()}
		if _, err := c.one(`-- name: revocation.indexes
			SELECT next - 1 FROM status_counter`, nil, func(r *row) { page.Indexes = r.integer() }); err != nil {
			return err
		}
		if _, err := c.one(`-- name: revocation.newest
			SELECT seq FROM sqlite_sequence WHERE name = 'revocations'`, nil, func(r *row) { page.Newest = r.integer() }); err != nil {
			return err
		}
		if page.Newest <= after {
			return nil
		}
		return c.each(`-- name: revocation.read
			SELECT seq, kind, subject, not_before, until, status_index FROM revocations
			WHERE seq > ? AND until > ? ORDER BY seq LIMIT ?`, []any{after, page.Now, limit}, func(r *row) {
			e := revocation.Entry{Seq: r.integer(), Kind: revocation.Kind(r.text())}
			e.ID = revocation.IDOf(e.Kind, r.text())
			e.NotBefore = r.instant().Unix()
			e.Until = r.instant().Add(time.Second - time.Microsecond).Unix()
			e.Index = r.integer()
			page.Entries = append(page.Entries, e)
		})
	})
	if n := len(page.Entries); n == limit && page.Entries[n-1].Seq < page.Newest {
		page.Newest, page.More = page.Entries[n-1].Seq, true
	}
	return page, err
}

// TakeIndexes implements revocation.Store.
func (s Revocations) TakeIndexes(ctx context.Context, n int) (first int64, err error) {
	err = s.db.write(ctx, "revocation.take_indexes", func(t *tx) error {
		_, err := t.one(`-- name: revocation.take_indexes
			UPDATE status_counter SET next = next + ?1 RETURNING next - ?1`, []any{n}, func(r *row) { first = r.integer() })
		return err
	})
	return first, err
}

// Sweep implements revocation.Store.
func (s Revocations) Sweep(ctx context.Context, at time.Time, limit int) (int, error) {
	return s.db.sweep(ctx, "revocation.sweep", `-- name: revocation.sweep
		DELETE FROM revocations WHERE seq IN (SELECT seq FROM revocations WHERE until <= ? ORDER BY until LIMIT ?)`,
		at, limit)
}

// revoke adds an entry to the feed, in the transaction of the act. It stands
// for the longest life of anything that was signed, which the keys remember,
// and the kind's Lag.
func (t *tx) revoke(kind revocation.Kind, subject string, notBefore time.Time) error {
	return t.addRevocation(kind, subject, notBefore, 0)
}

// revokeSession is revoke for a session, whose place in the status lists goes
// with it.
func (t *tx) revokeSession(s endedSession) error {
	return t.addRevocation(revocation.Session, s.id.String(), settled(t.now), s.index)
}

func (t *tx) addRevocation(kind revocation.Kind, subject string, notBefore time.Time, index int64) error {
	_, err := t.exec(`-- name: revocation.add
		INSERT INTO revocations (kind, subject, not_before, until, status_index)
		SELECT ?1, ?2, ?3, ?3 + ?4 + coalesce((SELECT max(signs_for) FROM keys WHERE purpose = 'sign'), 0), nullif(?5, 0)`,
		string(kind), subject, notBefore, kind.Lag(), index)
	return err
}

// revokeAll refuses every access token issued until now and dates later ones
// so that they pass.
func (t *tx) revokeAll(now time.Time) error {
	issuer := ""
	if _, err := t.one(`-- name: revocation.all
		UPDATE server_state SET tokens_from = ?1 WHERE tokens_from IS NULL OR tokens_from < ?1
		RETURNING issuer`, []any{revocation.NotBefore(now)}, func(r *row) { issuer = r.text() }); err != nil || issuer == "" {
		return err
	}
	return t.revoke(revocation.All, issuer, revocation.NotBefore(now))
}

// settled is the not_before of a session's entry, see revocation.Settling.
func settled(now time.Time) time.Time { return revocation.NotBefore(now).Add(revocation.Settling) }
