package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// The write-ahead log is folded into the file every foldPages pages, and begun
// anew when it has logPages. After it grew beyond logKept for want of a chance
// to do so, it shrinks to that at its next beginning.
const (
	foldPages = 256
	logPages  = 1000
	logKept   = 8 << 20
	// foldRests is how many pages are few enough to be folded while the writer
	// waits, and foldTries how often the fold tries to come down to them.
	foldRests = 64
	foldTries = 4
	// foldParts is in how many parts what was copied goes to the disk, and
	// partsRest the time between two: a commit that meets one waits for a sixteenth.
	foldParts = 16
	partsRest = 3 * time.Millisecond
	// commitPatience is how long a fold waits for a commit to go on beside.
	commitPatience = 20 * time.Millisecond
	// readersPatience is how long a checkpoint waits for the reads under way.
	readersPatience = 100 * time.Millisecond
)

// autoCheckpoint is the number of pages after which SQLite itself folds the log
// on a commit. A server does that by its own hand, see folder; a command leaves
// soon and lets SQLite do it.
func (db *DB) autoCheckpoint() string {
	if db.folder != nil {
		return "0"
	}
	return strconv.Itoa(logPages)
}

// folder folds the log of a server, beside the writer.
//
// SQLite's own way is to fold within the commit that meets the thousandth page:
// among a million families these are a thousand pages all over the file, and
// everybody who refreshes meanwhile waits for them to reach the disk. And it
// could begin the log anew only at an instant without any reader, which under
// load never comes: the log would grow without end. So the folder copies on a
// connection of its own while others write and read, and takes the writer's
// turn, and holds the readers back, only for the few pages that were written
// meanwhile and for the blink that the new beginning takes.
//
// Nothing here can fail a commit: it has happened, and is in the log until
// SQLite has synced the file. What is not folded now is folded after the next
// pages, or by whoever opens the file next. A folder beside a writer needs
// SQLite 3.51.3 or later: before, a checkpoint that met a new beginning of the
// log could leave pages out (the WAL-reset bug, sqlite.org/wal.html).
type folder struct {
	db        *DB
	pages     int           // written to the log since it was last asked to be folded; the writer's
	grown     chan struct{} // holds the wish to be folded
	committed chan struct{} // holds the news of a commit
	stop      context.CancelFunc
	done      chan struct{}

	folded   int  // pages of the log that are in the file, as the last fold left it
	unsynced bool // see errUnsynced; to be read when done is closed
	anew     int  // the length at which the log is to begin anew
}

func startFolder(db *DB) *folder {
	ctx, stop := context.WithCancel(context.Background())
	f := &folder{db: db, grown: make(chan struct{}, 1), committed: make(chan struct{}, 1), stop: stop, done: make(chan struct{}), anew: logPages}
	go f.run(ctx)
	return f
}

// afterCommit counts what a commit has written. c is the writer, in its turn.
func (f *folder) afterCommit(c *conn) {
	if f == nil {
		return
	}
	pages, _, err := c.raw.Status(sqlite.DBStatusCacheWrite, true)
	if err != nil {
		return
	}
	tell(f.committed)
	if f.pages += pages; f.pages < foldPages {
		return
	}
	f.pages = 0
	tell(f.grown)
}

// tell leaves a word for whoever listens to c next, unless one lies there.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (f *folder) run(ctx context.Context) {
	defer close(f.done)
	var c, mark *conn // the one that copies, and the one that holds back how far
	leave := func() {
		for _, c := range []*conn{c, mark} {
			if c != nil {
				c.close()
			}
		}
		c, mark = nil, nil
	}
	defer func() {
		if !f.unsynced {
			leave()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.grown:
		}
		var err error
		if c == nil {
			c, err = dial(f.db.dsn(), append(pragmas(readerCache), "busy_timeout=0"))
		}
		if err == nil && mark == nil {
			mark, err = dial(f.db.dsn(), append(pragmas(readerCache), "busy_timeout=0"))
		}
		if err == nil {
			err = f.fold(ctx, c, mark)
		}
		if errors.Is(err, errUnsynced) {
			f.unsynced = true
			_ = mark.read() // it may be reading already
			f.db.report(err)
			return
		}
		if err != nil {
			leave()
		}
	}
}

// errUnsynced says that the disk did not take what was copied. The system has
// dropped those pages from what it still means to write and says so only once: the
// next sync would succeed without them, and the log, which has them, begin anew. So
// the mark goes on reading until the process ends, which keeps every process from
// folding on and from beginning the log anew, and no connection is closed, because
// the last one folds as well. Whoever opens the file then copies the whole log once
// more. OnTrouble and doctor tell of it.
var errUnsynced = errors.New("the write-ahead log is kept and grows until this server is started again, look at the disk first: what was folded did not reach it")

// fold copies what is in the log, and begins it anew if it is long.
func (f *folder) fold(ctx context.Context, c, mark *conn) error {
	for range foldTries {
		done, err := f.copyPast(ctx, c, mark)
		if err != nil {
			return err
		}
		if done.length < 0 { // another process folds just now
			if pause(ctx, busyStep) != nil {
				break
			}
			continue
		}
		if done.length < f.folded { // it has begun anew since
			f.folded, f.anew = 0, logPages
		}
		copied := done.folded - f.folded
		f.folded = done.folded
		if done.length < f.anew {
			return nil
		}
		if copied <= foldRests {
			break
		}
	}
	return f.beginAnew(ctx, c)
}

// copyPast copies what is in the log now and brings it to the disk in parts.
//
// A checkpoint that leaves nothing behind syncs the file itself, all at once. So
// mark begins to read here, and what is committed after that is left for the next
// time. Until a later checkpoint has synced the file the log keeps every page:
// it cannot begin anew before one has copied all of it.
func (f *folder) copyPast(ctx context.Context, c, mark *conn) (done checkpointed, err error) {
	select {
	case <-f.committed:
	default:
	}
	defer func() {
		if errors.Is(err, errUnsynced) {
			return
		}
		if _, e := mark.exec("COMMIT"); err == nil {
			err = e
		}
	}()
	if err := mark.read(); err != nil {
		return done, err
	}
	timer := time.NewTimer(commitPatience)
	defer timer.Stop()
	select {
	case <-f.committed:
	case <-timer.C: // nobody is here to be disturbed
	case <-ctx.Done():
		return done, ctx.Err()
	}
	done, err = c.checkpoint("PRAGMA wal_checkpoint(PASSIVE)")
	if err == nil && done.length >= 0 {
		err = syncFile(f.db.path, func() error {
			if len(f.grown) > 0 { // the log grows faster than this
				return errNothing
			}
			return pause(ctx, partsRest)
		})
	}
	return done, err
}

// read begins to read the state of this moment.
func (c *conn) read() error {
	_, err := c.exec("BEGIN")
	if err == nil {
		_, err = c.one("SELECT 1 FROM schema_info", nil, func(*row) {})
	}
	return err
}

// beginAnew folds the rest and lets the next commit write to the beginning of
// the log. Where somebody goes on reading for long, it is not tried again before
// half as much has come on top: each try holds everybody back.
func (f *folder) beginAnew(ctx context.Context, c *conn) error {
	w, err := f.db.takeWriter(ctx, busyPatience)
	if err != nil {
		return nil // the disk stands still, or the database is closed: the next pages ask again
	}
	defer func() { f.db.writer <- w }()
	done, err := c.checkpoint("PRAGMA wal_checkpoint(RESTART)")
	if err == nil && done.busy && done.length >= 0 {
		held := f.db.holdReaders(readersPatience)
		if len(held) == readersMax {
			done, err = c.checkpoint("PRAGMA wal_checkpoint(RESTART)") // another process may still be reading
		}
		for _, r := range held {
			f.db.readers <- r
		}
	}
	if err != nil {
		return err
	}
	if done.busy {
		f.folded = max(done.folded, f.folded)
		f.anew = max(done.length, f.anew)
		f.anew += max(logPages, f.anew/2)
		return nil
	}
	f.folded, f.anew = 0, logPages
	return nil
}

// close ends the folding, waits for the fold under way, and reports whether the
// other connections may be closed, too.
func (f *folder) close() (synced bool) {
	if f == nil {
		return true
	}
	f.stop()
	<-f.done
	return !f.unsynced
}

// checkpointed is what a checkpoint found and left.
type checkpointed struct {
	busy   bool // somebody kept the log from beginning anew
	length int  // pages in the log; -1: another process was folding it
	folded int  // how many of them are in the file
}

func (c *conn) checkpoint(sql string) (done checkpointed, err error) {
	_, err = c.one(sql, nil, func(r *row) {
		done = checkpointed{r.boolean(), int(r.integer()), int(r.integer())}
	})
	if code(err) == lib.SQLITE_IOERR {
		err = fmt.Errorf("%w: %w", errUnsynced, err)
	}
	return done, err
}

// synced holds one descriptor of each file that this process has folded. None of
// them is ever closed, because that would drop the locks of all connections to
// the file, see place.
var synced = struct {
	sync.Mutex
	files map[string]*os.File
}{files: make(map[string]*os.File)}

func syncedFile(path string) (file *os.File, err error) {
	synced.Lock()
	defer synced.Unlock()
	if file = synced.files[path]; file != nil {
		return file, nil
	}
	if file, err = os.Open(path); err == nil {
		synced.files[path] = file
	}
	return file, err
}

// syncFile brings what was copied into the file to the disk, in parts where the
// system can, so that the commits meanwhile find the disk free between them. A
// checkpoint syncs by itself only if nothing was committed meanwhile; otherwise the
// one that holds the writer's turn would find all of it to do.
func syncFile(path string, rest func() error) error {
	file, err := syncedFile(path)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	part := info.Size()/foldParts + 1
	for i := range int64(foldParts) {
		err := writeOut(file, i*part, part)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("%w: %w", errUnsynced, err)
		}
		if err != nil || rest() != nil {
			break // Sync does the others
		}
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("%w: %w", errUnsynced, err)
	}
	return nil
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
