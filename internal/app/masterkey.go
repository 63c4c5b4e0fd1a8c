package app

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"example.com/authserver/internal/keys"
	"example.com/authserver/internal/secret"
)

// readOrMakeKeyFile reads a master key file, or makes one if that is allowed.
// Of several processes that make it at once all end with the same key.
func readOrMakeKeyFile(path string, mayMake bool) (key secret.Bytes, made bool, err error) {
	text, err := os.ReadFile(path)
	if err == nil {
		key, err = keys.ParseMasterKey(strings.TrimSpace(string(text)))
		if err != nil {
			return secret.Bytes{}, false, fmt.Errorf("%w: the file %s does not hold one: %w", keys.ErrMasterKey, path, err)
		}
		return key, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return secret.Bytes{}, false, fmt.Errorf("read master key: %w", err)
	}
	if !mayMake {
		return secret.Bytes{}, false, fmt.Errorf("%w: neither AUTHSERVER_MASTER_KEY nor the file %s is there, and this database holds keys already", keys.ErrMasterKey, path)
	}
	fresh := secret.Random(32)
	if err := writeKeyFile(path, fresh); err != nil {
		if errors.Is(err, fs.ErrExist) { // another process was faster
			return readOrMakeKeyFile(path, false)
		}
		return secret.Bytes{}, false, fmt.Errorf("write master key: %w", err)
	}
	return fresh, true, nil
}

// writeKeyFile writes the file whole and durable, or not at all: it appears
// under its name by a link, which fails if the name is taken. A crash leaves
// at most a file that ends in .new, which means nothing.
func writeKeyFile(path string, key secret.Bytes) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "master.key.*.new") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key.Reveal()) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Forsake removes the file of a master key that this process has just made for nothing.
//
// It stays where the database names it, because another process that found it has gone on
// with it, and where that cannot be said.
func (in *Installation) Forsake(ctx context.Context) {
	if !in.madeKey {
		return
	}
	facts, founded, err := in.Engine.Founding().Facts(context.WithoutCancel(ctx))
	if err != nil || founded && facts.MasterID == [8]byte(keys.IDOf(in.Masters.Current)) {
		return
	}
	_ = os.Remove(in.Config.MasterKeyPath())
	in.madeKey = false
}

// GeneratePassword makes a password that nobody guesses: 160 bits in 32 letters
// and digits.
func GeneratePassword() secret.Text {
	return secret.NewText(strings.ToLower(base32.StdEncoding.EncodeToString(secret.Random(20).Reveal())))
}
