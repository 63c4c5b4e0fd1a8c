package account

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"example.com/authserver/internal/id"
	"example.com/authserver/internal/password"
)

// ImportLine is one line of an import, as JSON (NDJSON: one object a line).
type ImportLine struct {
	Email        string     `json:"email"`
	PasswordHash string     `json:"password_hash,omitempty"` // in one of the forms of package password
	Roles        []string   `json:"roles,omitempty"`
	Disabled     bool       `json:"disabled,omitempty"`
	CreatedAt    *time.Time `json:"created_at,omitempty"`
}

// Refused is a line that was not imported.
type Refused struct {
	Line   int    `json:"line"` // from 1
	Email  string `json:"email,omitempty"`
	Reason string `json:"reason"`
}

// Imported says how an import went.
type Imported struct {
	Lines    int            `json:"lines"`
	Created  int            `json:"created"` // or, in a dry run, that would be
	Refused  int            `json:"refused"`
	Schemes  map[string]int `json:"schemes"` // hashes by kind and cost
	Warnings []Refused      `json:"refusals,omitempty"`
}

const (
	importBatch  = 500
	importLine   = 64 << 10 // bytes of one line
	importListed = 1000     // refusals listed; beyond it they are only counted
)

// Import reads accounts from r, one JSON object a line, and makes them in
// batches of one transaction each. A line that cannot be imported is refused
// with its number and the reason, and the others go on. With dryRun nothing is
// written; taken addresses inside the file are found, those in the store too.
//
// A run that dies half-way leaves whole batches behind; running it again skips
// them as taken.
func (r *Registry) Import(ctx context.Context, from io.Reader, now time.Time, dryRun bool, actor, requestID string) (Imported, error) {
	done := Imported{Schemes: map[string]int{}}
	refuse := func(line int, email, reason string) {
		done.Refused++
		if len(done.Warnings) < importListed {
			done.Warnings = append(done.Warnings, Refused{Line: line, Email: email, Reason: reason})
		}
	}
	var batch []NewUser
	var lines []int
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		var taken []int
		var err error
		if dryRun {
			taken, err = r.taken(ctx, batch)
		} else {
			taken, err = r.store.Import(ctx, batch)
		}
		if err != nil {
			return fmt.Errorf("lines %d to %d: %w", lines[0], lines[len(lines)-1], err)
		}
		isTaken := make(map[int]bool, len(taken))
		for _, i := range taken {
			isTaken[i] = true
			refuse(lines[i], batch[i].Email.String(), "an account with this e-mail exists")
		}
		for i, u := range batch {
			if !isTaken[i] {
				done.Created++
				if u.Scheme != "" {
					done.Schemes[u.Scheme]++
				}
			}
		}
		batch, lines = batch[:0], lines[:0]
		return nil
	}

	seen := map[string]int{}
	reader := bufio.NewReaderSize(from, importLine)
	for {
		text, whole, err := nextLine(reader)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return done, errors.Join(fmt.Errorf("read line %d: %w", done.Lines+1, err), flush())
		}
		done.Lines++
		if !whole {
			refuse(done.Lines, "", fmt.Sprintf("longer than %d bytes", importLine))
			continue
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		u, email, err := readImportLine(text, now)
		if err != nil {
			refuse(done.Lines, email, err.Error())
			continue
		}
		if first, twice := seen[u.Email.Key()]; twice {
			refuse(done.Lines, email, fmt.Sprintf("the same e-mail as in line %d", first))
			continue
		}
		seen[u.Email.Key()] = done.Lines
		u.Actor, u.RequestID = actor, requestID
		batch, lines = append(batch, u), append(lines, done.Lines)
		if len(batch) == importBatch {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
	return done, flush()
}

// nextLine returns the next line; whole is false for one that is too long,
// which is read past.
func nextLine(from *bufio.Reader) (text []byte, whole bool, err error) {
	text, err = from.ReadSlice('\n')
	whole = true
	for errors.Is(err, bufio.ErrBufferFull) {
		whole = false
		_, err = from.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) && (len(text) > 0 || !whole) {
		err = nil // the last line has no end
	}
	return text, whole, err
}

func readImportLine(text []byte, now time.Time) (NewUser, string, error) {
	var line ImportLine
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&line); err != nil {
		return NewUser{}, "", fmt.Errorf("no line of the import format, like {\"email\":\"ada@example.com\",\"password_hash\":\"$2y$10$...\"}: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return NewUser{}, line.Email, errors.New("more than one JSON value in the line")
	}
	email, err := ParseEmail(line.Email)
	if err != nil {
		return NewUser{}, line.Email, err
	}
	u := NewUser{ID: id.NewUser(), Email: email, Disabled: line.Disabled, Imported: true}
	if line.PasswordHash != "" {
		scheme, err := password.Parse(line.PasswordHash)
		if err != nil {
			return NewUser{}, line.Email, fmt.Errorf("password_hash: %w", err)
		}
		u.Hash, u.Scheme = line.PasswordHash, scheme.String()
	}
	for _, role := range line.Roles {
		role, err := ParseRole(role)
		if err != nil {
			return NewUser{}, line.Email, err
		}
		u.Roles = append(u.Roles, role)
	}
	if err := CheckRoles(u.Roles); err != nil {
		return NewUser{}, line.Email, err
	}
	if line.CreatedAt != nil {
		if line.CreatedAt.After(now) {
			return NewUser{}, line.Email, fmt.Errorf("created_at is %s, which lies in the future", line.CreatedAt.UTC().Format(time.RFC3339))
		}
		u.CreatedAt = line.CreatedAt.UTC()
	}
	return u, line.Email, nil
}

// taken finds, for a dry run, which addresses have an account.
func (r *Registry) taken(ctx context.Context, users []NewUser) ([]int, error) {
	var found []int
	for i, u := range users {
		_, err := r.store.ByEmail(ctx, u.Email.Key())
		switch {
		case err == nil:
			found = append(found, i)
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return found, nil
}
