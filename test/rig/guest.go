package rig

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Guest logs in and out, over and over, and remembers what was acknowledged as ended: that
// stays so, whatever is done to the servers and their database.
type Guest struct {
	HTTP            *http.Client
	Node            func() string // the base URL to ask next
	Email, Password string
	Pause           time.Duration // between two visits

	visit sync.Mutex // held while one lasts
	gone  []string   // refresh tokens of sessions that were acknowledged as ended
}

// How long one attempt of a guest may take, and all of them to log out.
const (
	guestAttempt  = 20 * time.Second
	guestPatience = 4 * time.Minute
)

// Stay makes visits until over is closed or ctx ends. An error says that a promise was
// broken: a right password or a logout that was refused, or no answer for minutes.
func (g *Guest) Stay(ctx context.Context, over <-chan struct{}) error {
	for {
		if err := g.once(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(g.Pause):
		}
	}
}

// Away waits until no visit is under way and keeps the guest from another one until back is
// called.
func (g *Guest) Away() (back func()) {
	g.visit.Lock()
	return g.visit.Unlock
}

func (g *Guest) ask(ctx context.Context, path string, body any) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, guestAttempt)
	defer cancel()
	return Ask(ctx, g.HTTP, http.MethodPost, g.Node()+path, body)
}

func (g *Guest) once(ctx context.Context) error {
	g.visit.Lock()
	defer g.visit.Unlock()
	in, err := g.ask(ctx, "/v1/login", map[string]string{"email": g.Email, "password": g.Password})
	if err != nil || in.Status == http.StatusServiceUnavailable {
		return nil // trouble is what the others are there to feel
	}
	if in.Status != http.StatusOK {
		return fmt.Errorf("a login with the right password: %s", in)
	}
	token := in.Field("refresh_token")
	for deadline := time.Now().Add(guestPatience); ; <-time.After(25 * time.Millisecond) {
		out, err := g.ask(ctx, "/v1/logout", map[string]string{"refresh_token": token})
		switch {
		case err == nil && out.Status == http.StatusNoContent:
			g.gone = append(g.gone, token)
			return nil
		case ctx.Err() != nil:
			return nil
		case err == nil && out.Status != http.StatusServiceUnavailable:
			return fmt.Errorf("a logout: %s", out)
		case time.Now().After(deadline):
			return fmt.Errorf("no logout within %s: %v %s", guestPatience, err, out)
		}
	}
}

// Revived presents what was acknowledged as ended and returns how many sessions there were
// of it, and how many are alive. It is called when no visit is under way any more.
func (g *Guest) Revived(ctx context.Context) (ended, alive int, err error) {
	for _, token := range g.gone {
		a, err := Patiently(time.Minute, func() (Answer, error) {
			return g.ask(ctx, "/v1/refresh", map[string]string{"refresh_token": token})
		})
		switch {
		case err != nil:
			return len(g.gone), alive, err
		case a.Status == http.StatusOK:
			alive++
		case a.Status != http.StatusUnauthorized:
			return len(g.gone), alive, fmt.Errorf("a refresh after the answer to a logout: %s", a)
		}
	}
	return len(g.gone), alive, nil
}
