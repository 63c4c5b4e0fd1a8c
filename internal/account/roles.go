package account

import (
	"context"
	"errors"
	"slices"

	"example.com/authserver/internal/fault"
	"example.com/authserver/internal/id"
)

// SetRole grants a role to an account or takes it away, and returns the account
// as it stands then. It is the one way: doors and commands call it alike.
// Errors are ErrNotFound, the faults invalid_request (no name of a role) and
// conflict (the roles would not fit into a token), or trouble.
func SetRole(ctx context.Context, store Store, uid id.User, role string, granted bool, actor, requestID string) (User, error) {
	if _, err := ParseRole(role); err != nil {
		return User{}, fault.New(fault.InvalidRequest, "%s", err)
	}
	u, err := store.ByID(ctx, uid)
	if err != nil {
		return User{}, err
	}
	if granted && !slices.Contains(u.Roles, role) {
		if err := CheckRoles(append(slices.Clone(u.Roles), role)); err != nil {
			return User{}, fault.New(fault.Conflict, "%s", err)
		}
	}
	if err := store.SetRole(ctx, uid, role, granted, actor, requestID); err != nil {
		return User{}, err
	}
	return store.ByID(ctx, uid)
}

// Missing gives ErrNotFound the code that a user may see; other errors stay.
func Missing(err error) error {
	if errors.Is(err, ErrNotFound) {
		return fault.New(fault.UserNotFound, "There is no such account.").Because(err)
	}
	return err
}
