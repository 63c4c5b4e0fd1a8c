package sqlite

import (
	"strconv"
	"time"

	"modernc.org/sqlite"
)

// The write-ahead log is folded into the file every checkpointPages pages, and
// then begun anew. After it grew beyond logKept for want of a chance to do so,
// it shrinks to that at its next beginning.
const (
	checkpointPages = 1000
	logKept         = 8 << 20
	// readersPatience is how long a checkpoint waits for the reads under way.
	readersPatience = 100 * time.Millisecond
)

// autoCheckpoint is the number of pages after which SQLite itself folds the log
// on a commit. A server does that by its own hand, see afterCommit; a command
// leaves soon and lets SQLite do it.
func (db *DB) autoCheckpoint() string {
	if db.ownChecks {
		return "0"
	}
	return strconv.Itoa(checkpointPages)
}

// afterCommit folds the log when it has grown. SQLite's own way would copy the
// pages but could begin the log anew only at an instant without any reader,
// which under load never comes: the log would grow without end, and every
// commit from the thousandth page on would pay a checkpoint. So the writer,
// still holding its turn, first copies beside the readers, and then holds the
// readers back for the blink that the new beginning takes.
//
// Nothing here can fail a commit: it has happened. What is not folded now is
// folded after the next thousand pages, or by whoever opens the file next.
func (db *DB) afterCommit(c *conn) {
	if !db.ownChecks {
		return
	}
	pages, _, err := c.raw.Status(sqlite.DBStatusCacheWrite, true)
	if err != nil {
		return
	}
	if db.backlog += pages; db.backlog < checkpointPages {
		return
	}
	db.backlog = 0
	if busy, err := c.checkpoint("PRAGMA wal_checkpoint(RESTART)"); err != nil || !busy {
		return
	}
	held := db.holdReaders(readersPatience)
	defer func() {
		for _, r := range held {
			db.readers <- r
		}
	}()
	if len(held) == readersMax {
		_, _ = c.checkpoint("PRAGMA wal_checkpoint(RESTART)") // another process may still be reading
	}
}

// checkpoint reports whether a reader kept the log from beginning anew.
func (c *conn) checkpoint(sql string) (busy bool, err error) {
	_, err = c.one(sql, nil, func(r *row) { busy = r.boolean() })
	return busy, err
}

// holdReaders takes the whole read pool, or what it gets of it in time. Nobody
// who reads waits for the writer meanwhile: a reader is given back before the
// writer is asked for.
func (db *DB) holdReaders(patience time.Duration) []*conn {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	held := make([]*conn, 0, readersMax)
	for len(held) < readersMax {
		select {
		case c, open := <-db.readers:
			if !open {
				return held
			}
			held = append(held, c)
		case <-timer.C:
			return held
		}
	}
	return held
}
