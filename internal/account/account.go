// Package account owns people's accounts: the e-mail address that names one,
// its password credential, its roles and whether it is enabled. It does not
// own how a password is hashed or judged (package password) nor what a login
// opens (package login).
package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"example.com/authserver/internal/id"
)

// Email is an address that passed ParseEmail. It is kept as it was given; Key
// is what addresses are compared by.
type Email struct{ given, key string }

// maxEmail is the longest path of RFC 5321 section 4.5.3.1.3, without the
// angle brackets, in bytes.
const maxEmail = 254

// ParseEmail checks the shape of an address: one @ with something on both sides
// (more of them only in a quoted name), valid UTF-8, no white space and no control
// characters, at most 254 bytes. Whether mail arrives there, only mail can tell.
func ParseEmail(given string) (Email, error) {
	switch at := strings.LastIndexByte(given, '@'); {
	case given == "":
		return Email{}, errors.New("email is empty; want an address like ada@example.com")
	case len(given) > maxEmail:
		return Email{}, fmt.Errorf("email has %d bytes; want at most %d", len(given), maxEmail)
	case !utf8.ValidString(given):
		return Email{}, errors.New("email is not valid UTF-8")
	case strings.ContainsFunc(given, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || !unicode.IsPrint(r) }):
		return Email{}, fmt.Errorf("email %q holds white space or a control character", given)
	case at <= 0 || at == len(given)-1:
		return Email{}, fmt.Errorf("email %q has no name or no domain; want an address like ada@example.com", given)
	case given[0] != '"' && strings.Contains(given[:at], "@"):
		return Email{}, fmt.Errorf("email %q has more than one @; want an address like ada@example.com", given)
	}
	return Email{given: given, key: EmailKey(given)}, nil
}

// EmailKey returns what an address is compared by: NFC and lower case.
func EmailKey(given string) string {
	return norm.NFC.String(strings.ToLower(norm.NFC.String(given)))
}

// String returns the address as it was given.
func (e Email) String() string { return e.given }

// Key returns what the address is compared by.
func (e Email) Key() string { return e.key }

// User is an account.
type User struct {
	ID         id.User
	Email      string // as given
	CreatedAt  time.Time
	DisabledAt time.Time // zero while enabled
	Roles      []string  // sorted
	// CredentialVersion rises with every ban, password change and erasure. A
	// session is born only if it is still what the login had verified.
	CredentialVersion int32
	HasPassword       bool
}

// RoleAdmin is the role that the admin API asks for.
const RoleAdmin = "admin"

// ParseRole checks the name of a role: 1 to 64 of a-z 0-9 . _ : and -.
func ParseRole(s string) (string, error) {
	if len(s) < 1 || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789._:-") != "" {
		return "", fmt.Errorf("role %.80q: want 1 to 64 of a-z, 0-9, '.', '_', ':' and '-'", s)
	}
	return s, nil
}

// maxRoles bounds the roles of one account in bytes, counted as they stand in
// a token: every access token carries them, and proxies' headers are small.
const maxRoles = 1500

// CheckRoles refuses roles that would not fit into an access token.
func CheckRoles(roles []string) error {
	n := 0
	for _, role := range roles {
		n += len(role) + len(`"",`)
	}
	if n > maxRoles {
		return fmt.Errorf("the roles take %d bytes in every token; want at most %d", n, maxRoles)
	}
	return nil
}

// The conflicts and absences a store answers with; any other error is trouble.
var (
	ErrEmailTaken = errors.New("an account with this e-mail exists")
	ErrNotFound   = errors.New("no such account")
	ErrChanged    = errors.New("the credential was changed by somebody else")
)

// NewUser is an account about to be made.
type NewUser struct {
	ID     id.User
	Email  Email
	Hash   string // PHC form; empty: an account without a password
	Scheme string // the cost signature of Hash, see password.Scheme
	Roles  []string
	// DisabledAt is set for imported accounts that were disabled there.
	Disabled  bool
	CreatedAt time.Time // zero: now
	Network   string    // known from the start; empty on the command line
	Actor     string
	RequestID string
	Imported  bool
}

// PasswordChange replaces a password. Version is the credential version the
// old password was verified at; 0 on the host, where nothing is verified.
type PasswordChange struct {
	User      id.User
	Version   int32
	Hash      string
	Scheme    string
	Keep      [16]byte // the session that stays; zero: none
	Actor     string
	RequestID string
}

// Store keeps accounts. Whatever ends sessions here locks the user's row
// first and ends them in the same transaction through the store's one
// function for it, and raises the credential version.
type Store interface {
	// Create makes an account. ErrEmailTaken when the address is in use.
	Create(ctx context.Context, u NewUser) (User, error)
	// Import makes many accounts in one transaction; taken addresses are
	// skipped and reported by their index.
	Import(ctx context.Context, users []NewUser) (taken []int, err error)
	// ByID and ByEmail return an account or ErrNotFound.
	ByID(ctx context.Context, u id.User) (User, error)
	ByEmail(ctx context.Context, emailKey string) (User, error)
	// List returns accounts by e-mail key, after the given key, at most limit.
	List(ctx context.Context, afterKey string, limit int) ([]User, error)
	// ChangePassword replaces the hash, raises the credential version and ends
	// every session but Keep; ErrChanged when Version is not 0 and is not the
	// present one. It returns how many sessions it ended.
	ChangePassword(ctx context.Context, c PasswordChange) (ended int, err error)
	// Disable disables the account and ends all its sessions; Enable undoes
	// the first. Both are idempotent.
	Disable(ctx context.Context, u id.User, actor, requestID string) (ended int, err error)
	Enable(ctx context.Context, u id.User, actor, requestID string) error
	// SetRole grants or revokes a role; idempotent.
	SetRole(ctx context.Context, u id.User, role string, granted bool, actor, requestID string) error
	// Schemes returns the distinct cost signatures of the hashes in the store.
	Schemes(ctx context.Context) ([]string, error)
}
