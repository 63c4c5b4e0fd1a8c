package rig

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"example.com/authserver/verify"
)

// ResourceServers are services that accept access tokens, one for each node: it
// verifies by the keys that this node has published, fetches them again when a token
// names a key that it does not know, and never asks anybody else. What one node hands
// out has to pass at all of them at once. They are safe for concurrent use.
type ResourceServers struct {
	// AnyClock takes what is expired or not yet valid: where the store's clock, by which
	// tokens are dated, is not that of the resource servers.
	AnyClock bool

	http  *http.Client
	nodes []string // URLs

	mu   sync.Mutex
	by   map[string]*verify.Verifier // what was fetched from a node last
	owed []owed
}

// owed is a token that came while a node was away that had not published its key
// before. It is shown again by Settle.
type owed struct{ node, token string }

// keysPatience bounds the fetching of keys: a node may be stopped.
const keysPatience = 2 * time.Second

// NewResourceServers makes one for each node.
func NewResourceServers(h *http.Client, nodes ...string) *ResourceServers {
	return &ResourceServers{http: h, nodes: nodes, by: map[string]*verify.Verifier{}}
}

// Accept shows a token that was just handed out to all. An error says that one
// refuses it.
func (r *ResourceServers) Accept(ctx context.Context, token string) error {
	for _, node := range r.nodes {
		err := r.verify(ctx, node, token)
		if errors.Is(err, errAway) {
			r.mu.Lock()
			r.owed = append(r.owed, owed{node, token})
			r.mu.Unlock()
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Settle shows the tokens again that some could not judge, once all nodes are back.
func (r *ResourceServers) Settle(ctx context.Context) error {
	r.mu.Lock()
	list := r.owed
	r.owed = nil
	r.mu.Unlock()
	for _, o := range list {
		var verdict error
		err := Poll(ctx, time.Minute, func() error {
			if verdict = r.verify(ctx, o.node, o.token); errors.Is(verdict, errAway) {
				return verdict
			}
			return nil
		})
		// Expired is what is said of a token that is good but for its age.
		if err := errors.Join(err, verdict); err != nil && !errors.Is(verdict, verify.ErrExpired) {
			return err
		}
	}
	return nil
}

// errAway says that a node did not tell its keys.
var errAway = errors.New("the node is away")

func (r *ResourceServers) verify(ctx context.Context, node, token string) error {
	r.mu.Lock()
	v := r.by[node]
	r.mu.Unlock()
	if v != nil {
		_, err := v.Verify(ctx, token)
		if err == nil || !errors.Is(err, verify.ErrUnknownKey) {
			return r.explain(node, token, err)
		}
	}
	v, err := r.fetch(ctx, node, token)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.by[node] = v
	r.mu.Unlock()
	_, err = v.Verify(ctx, token)
	return r.explain(node, token, err)
}

func (r *ResourceServers) explain(node, token string, err error) error {
	if err == nil || r.AnyClock && (errors.Is(err, verify.ErrExpired) || errors.Is(err, verify.ErrNotYetValid)) {
		return nil
	}
	parts := strings.SplitN(token, ".", 3)
	claims, _ := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
	return fmt.Errorf("by the keys of %s an access token is refused: %w: %s", node, err, claims)
}

// fetch makes a verifier of what a node publishes now, for the issuer and the audience
// that the token names: those are not what is tested.
func (r *ResourceServers) fetch(ctx context.Context, node, token string) (*verify.Verifier, error) {
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, node+"/.well-known/jwks.json", nil)
	if err != nil {
		return nil, err
	}
	response, err := r.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %d %s (%w)", errAway, response.StatusCode, text, err)
	}
	keys, err := verify.StaticKeys(text)
	if err != nil {
		return nil, fmt.Errorf("the key set of %s: %w", node, err)
	}
	var claims struct {
		Issuer   string `json:"iss"`
		Audience any    `json:"aud"` // a text or several
	}
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		return nil, fmt.Errorf("no access token: %q: %w", token, err)
	}
	audience, _ := claims.Audience.(string)
	if list, ok := claims.Audience.([]any); ok && len(list) > 0 {
		audience, _ = list[0].(string)
	}
	return verify.New(verify.Config{Issuer: claims.Issuer, Audience: audience, Keys: keys, Leeway: 5 * time.Second, CacheSize: verify.NoCache})
}
