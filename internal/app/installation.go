// Package app is the attic, where concrete things meet interfaces: it opens
// the engine that the configuration names, gathers the facts of the
// installation, and puts the rooms and doors together into a server. It owns
// no rule and no format.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"example.com/authserver/internal/admin"
	"example.com/authserver/internal/config"
	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/secret"
	"example.com/authserver/internal/store"
	"example.com/authserver/internal/store/postgres"
	"example.com/authserver/internal/store/sqlite"
)

// Installation is a database that belongs to this configuration, with the
// master keys to open what is sealed in it.
type Installation struct {
	Config  *config.Config
	Engine  store.Engine
	Masters keys.MasterKeys
	// Founded reports that this start made the installation.
	Founded bool
	// Notes are what an operator may want to know, in order.
	Notes []string
	// Warnings are what an operator has to do something about, in order.
	Warnings []string

	madeKey bool // this process wrote the file of the master key
}

// Mismatch is a dangerous or ambiguous start: what the configuration says does
// not fit what the database says.
type Mismatch struct {
	What     string
	Seen     string
	Expected string
	Hint     string
}

// NoInstallation is the What of a place where nothing was founded yet.
const NoInstallation = "installation"

func noInstallation(seen string) error {
	return &Mismatch{
		What: NoInstallation, Seen: seen, Expected: "a database that a server has made",
		Hint: "authserver serve makes one; if there is one, say where: AUTHSERVER_DATA_DIR or AUTHSERVER_DATABASE_URL",
	}
}

// SchemaMismatch is the What of a schema that was not migrated yet.
const SchemaMismatch = "database schema"

// Error implements error.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("%s: seen %s, expected %s", m.What, m.Seen, m.Expected)
}

// Use says what an installation is opened for.
type Use uint8

const (
	// ToOperate is the command line: the installation must be there.
	ToOperate Use = iota
	// ToFound is the command line where it may be made: before the first start
	// of a server somebody may want to make the first account.
	ToFound
	// ToServe migrates, and holds a SQLite file against a second server.
	ToServe
	// ToRescue goes on where a master key is missing.
	ToRescue
)

// OpenEngine opens the database that the configuration names and nothing
// more. server says whether it is for serving: then a SQLite file is held
// against a second server.
func OpenEngine(ctx context.Context, c *config.Config, server bool) (store.Engine, error) {
	if path, ok := c.SQLitePath(); ok {
		return sqlite.Open(ctx, sqlite.Options{Path: path, Server: server})
	}
	conns := c.DatabaseConns
	if conns == 0 {
		conns = max(8, 4*runtime.GOMAXPROCS(0))
	}
	return postgres.Open(ctx, postgres.Options{URL: c.DatabaseURL, MaxConns: int32(conns)})
}

// CheckDatabaseURL reports a URL of PostgreSQL that no server could be reached by. It
// connects to nothing.
func CheckDatabaseURL(c *config.Config) error {
	if _, ok := c.SQLitePath(); ok {
		return nil
	}
	return postgres.CheckURL(c.DatabaseURL)
}

// Open opens the installation. The caller closes the Engine.
func Open(ctx context.Context, c *config.Config, use Use) (*Installation, error) {
	if path, ok := c.SQLitePath(); ok && use != ToServe && use != ToFound {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, noInstallation("no file " + path)
		}
	}
	engine, err := OpenEngine(ctx, c, use == ToServe)
	if err != nil {
		return nil, err
	}
	in := &Installation{Config: c, Engine: engine}
	if err := in.settle(ctx, use); err != nil {
		if use == ToRescue {
			in.Forsake(ctx) // nobody has agreed to anything yet
		}
		engine.Close()
		return nil, err
	}
	return in, nil
}

func (in *Installation) settle(ctx context.Context, use Use) error {
	schema, err := in.Engine.Schema(ctx)
	if err != nil {
		return err
	}
	if err := schema.Check(); err != nil {
		return err
	}
	switch {
	case len(schema.Pending) == 0 && schema.Applied > schema.Newest:
		in.note("the schema (migration %04d) is newer than this binary (%04d) and compatible with it", schema.Applied, schema.Newest)
	case len(schema.Pending) == 0 && use != ToServe:
	case schema.Applied == 0 && use != ToServe && use != ToFound:
		return noInstallation("an empty database")
	case use == ToServe || schema.Applied == 0:
		applied, err := in.Engine.Migrate(ctx)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		if len(applied) > 0 {
			in.note("applied migrations: %s", strings.Join(applied, ", "))
		}
	default:
		return &Mismatch{
			What: SchemaMismatch, Seen: fmt.Sprintf("migration %04d", schema.Applied),
			Expected: fmt.Sprintf("migration %04d", schema.Newest), Hint: "authserver migrate",
		}
	}
	return in.identify(ctx, use)
}

// identify compares the installation's facts with the configuration, and
// founds an empty one.
func (in *Installation) identify(ctx context.Context, use Use) error {
	facts, founded, err := in.Engine.Founding().Facts(ctx)
	if err != nil {
		return err
	}
	if !founded && use != ToServe && use != ToFound { // to look at it must not found it, nor make a key
		return noInstallation("a database with tables and nothing in them")
	}
	current, made, err := in.masterKey(!founded || use == ToRescue)
	if err != nil {
		return err
	}
	in.madeKey = made
	in.Masters = keys.MasterKeys{Current: current}
	for _, former := range in.Config.MasterKeyFormer {
		key, err := keys.ParseMasterKey(former.Reveal())
		if err != nil {
			return err
		}
		in.Masters.Former = append(in.Masters.Former, key)
	}
	if !founded {
		wanted := store.Facts{Issuer: in.Config.Issuer, MasterID: keys.IDOf(current)}
		if facts, err = in.Engine.Founding().Found(ctx, wanted); err != nil {
			return err
		}
		in.Founded = facts == wanted
	}
	if use != ToRescue && made && facts.MasterID != [8]byte(keys.IDOf(current)) {
		// Another node founded the installation meanwhile, with another key.
		in.Forsake(ctx)
		return in.missingMasterKey(facts)
	}
	if made {
		in.note("made the master key %s", in.Config.MasterKeyPath())
		if in.Engine.Name() != "sqlite" {
			in.warn("every other node and the next deployment need this file: copy %s, or set AUTHSERVER_MASTER_KEY_FILE", in.Config.MasterKeyPath())
		}
	}
	if use != ToServe && in.Config.Issuer == config.DefaultIssuer {
		in.Config.Issuer = facts.Issuer // an operator need not repeat the server's settings
	}
	if facts.Issuer != in.Config.Issuer {
		return &Mismatch{
			What: config.EnvName("issuer"), Seen: fmt.Sprintf("%q", in.Config.Issuer), Expected: fmt.Sprintf("%q, which this database was made for", facts.Issuer),
			Hint: "set " + config.EnvName("issuer") + "=" + facts.Issuer + "; to change the issuer for good (every token signed before becomes invalid): authserver config set-issuer " + in.Config.Issuer,
		}
	}
	if use == ToRescue {
		return nil
	}
	if info, err := os.Stat(in.Config.MasterKeyPath()); err == nil && info.Mode().Perm()&0o077 != 0 {
		in.warn("others can read the master key %s (mode %04o): chmod 600 it", in.Config.MasterKeyPath(), info.Mode().Perm())
	}
	ring, err := in.Engine.Keys().ReadRing(ctx)
	if err != nil {
		return err
	}
	return in.Masters.Check(ring)
}

func (in *Installation) note(format string, args ...any) {
	in.Notes = append(in.Notes, fmt.Sprintf(format, args...))
}

func (in *Installation) warn(format string, args ...any) {
	in.Warnings = append(in.Warnings, fmt.Sprintf(format, args...))
}

// masterKey returns the configured master key, the one in the file, or, where
// that is allowed, a new one that it wrote to the file.
func (in *Installation) masterKey(mayMake bool) (key secret.Bytes, made bool, err error) {
	if text := in.Config.MasterKey.Reveal(); text != "" {
		key, err := keys.ParseMasterKey(text)
		return key, false, err
	}
	return readOrMakeKeyFile(in.Config.MasterKeyPath(), mayMake)
}

func (in *Installation) missingMasterKey(facts store.Facts) error {
	return fmt.Errorf("%w: this database was founded with master key %s, and %s does not hold it",
		keys.ErrMasterKey, keys.MasterID(facts.MasterID), in.Config.MasterKeyPath())
}

// Vault is the room of an operator's acts on keys.
func (in *Installation) Vault() admin.Vault {
	c := in.Config
	return admin.Vault{
		Custodian: keys.NewCustodian(in.Engine.Keys(), in.Masters, c.Keys(), time.Now),
		Verifiers: in.Engine.Verifiers(), Sessions: in.Engine.Sessions(), Policy: c.Keys(), Refresh: c.Refresh(config.FirstParty),
	}
}
