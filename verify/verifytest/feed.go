package verifytest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	tokenLife = 10 * time.Minute
	// margin is for how long an entry outlives the tokens that it is about.
	margin = 2 * time.Minute

	maxNumber = 1<<53 - 1
)

// entry is a revocation as the feed lists it.
type entry struct {
	Seq       int64  `json:"seq"`
	Kind      string `json:"kind"`
	ID        string `json:"id"`
	NotBefore int64  `json:"not_before"`
	Until     int64  `json:"until"`
}

// feed has everything that was revoked.
type feed struct {
	seq     int64
	entries []entry
	floors  map[string]int64 // not_before by id
	changed chan struct{}    // closed with the next entry

	staleSeq int64 // of a StaleStore
	staleAt  time.Time
}

func newFeed() feed {
	return feed{floors: map[string]int64{}, changed: make(chan struct{})}
}

// wake tells streams that there may be news.
func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// RevokeSession ends the tokens of a session that are out, by its sid.
//
// Like all Revoke methods it returns when every verifier and feed that this
// Issuer made has heard of it; unless a Fault stands in the way.
func (i *Issuer) RevokeSession(sid string) { i.revoke("session", sid) }

// RevokeGrant ends what one client holds within a session.
func (i *Issuer) RevokeGrant(sid, clientID string) { i.revoke("grant", sid+" "+clientID) }

// RevokeUser ends the tokens of a user that are out, by their sub: a ban.
func (i *Issuer) RevokeUser(sub string) { i.revoke("user", sub) }

// RevokeClient ends the tokens of a client that are out.
func (i *Issuer) RevokeClient(clientID string) { i.revoke("client", clientID) }

// RevokeAll ends all tokens that are out.
func (i *Issuer) RevokeAll() { i.revoke("all", i.url) }

// RevokeKey is the emergency: the key leaves the set, whatever it signed is
// refused, and if it was the active one its successor signs.
func (i *Issuer) RevokeKey(kid string) {
	i.mu.Lock()
	gone := func(k *key) bool { return k.id == kid }
	i.retired = slices.DeleteFunc(i.retired, gone)
	if gone(i.keys[0]) {
		i.advance()
	} else if n := len(i.keys); slices.ContainsFunc(i.keys, gone) {
		i.keys = slices.DeleteFunc(i.keys, gone)
		i.keys = append(i.keys, newKey(i.t))[:n]
	}
	i.mu.Unlock()
	i.revoke("key", kid)
}

func (i *Issuer) revoke(kind, subject string) {
	i.t.Helper()
	now := time.Now()
	notBefore := now.Unix()
	if now.Nanosecond() > 0 {
		notBefore++
	}
	i.mu.Lock()
	f := &i.feed
	f.seq++
	id := markOf(kind, subject)
	f.entries = append(f.entries, entry{f.seq, kind, id, notBefore, notBefore + int64((tokenLife+margin)/time.Second)})
	f.floors[id] = notBefore
	seq := f.seq
	i.mu.Unlock()
	i.tell(func(theirs int64) bool { return theirs >= seq })
}

// tell tells readers of a change and waits until the numbers that they hold
// will do.
func (i *Issuer) tell(will func(seq int64) bool) {
	i.t.Helper()
	i.mu.Lock()
	i.feed.wake()
	followers := slices.Clone(i.followers)
	if i.fault != None || i.feedFault != None {
		followers = nil
	}
	i.mu.Unlock()
	for _, f := range followers {
		f.await(i.t, will)
	}
}

// Forget takes all revocations back and begins to count anew at seq: what a
// store looks like that was restored from a backup.
func (i *Issuer) Forget(seq int64) {
	i.t.Helper()
	i.mu.Lock()
	i.feed.seq, i.feed.entries = seq, nil
	clear(i.feed.floors)
	i.mu.Unlock()
	i.tell(func(theirs int64) bool { return theirs <= seq })
}

// markOf is how the feed names what a revocation is about.
func markOf(kind, subject string) string {
	sum := sha256.Sum256([]byte(kind + ":" + subject))
	return b64(sum[:16])
}

// floor is the earliest iat of a token like t that is not revoked.
func (f *feed) floor(t Token, issuer string) int64 {
	return max(f.floors[markOf("session", t.SessionID)], f.floors[markOf("grant", t.SessionID+" "+t.ClientID)],
		f.floors[markOf("user", t.Subject)], f.floors[markOf("client", t.ClientID)], f.floors[markOf("all", issuer)])
}

// since returns the statement for a reader who holds after, and its number. A
// reader who is ahead of us gets everything: our store was restored.
func (i *Issuer) since(after int64) (statement string, entries []byte, seq int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now, newest := time.Now(), i.feed.seq
	if i.stale() {
		now, newest = i.feed.staleAt, i.feed.staleSeq
	}
	if after > newest {
		after = 0
	}
	list := []entry{}
	for _, e := range i.feed.entries {
		if e.Seq > after && e.Seq <= newest && e.Until > now.Unix() {
			list = append(list, e)
		}
	}
	said := i.say(map[string]any{"seq": newest, "after": after, "iat": now.Unix(), "entries": list})
	return said, marshal([]any{after, list}), newest
}

// stale says whether the store is.
func (i *Issuer) stale() bool { return i.fault == StaleStore || i.feedFault == StaleStore }

// age is for how long the store is stale, in whole seconds.
func (i *Issuer) age() int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.stale() {
		return 0
	}
	return int64(time.Since(i.feed.staleAt) / time.Second)
}

// pulse is the sign of life on a stream.
func (i *Issuer) pulse() string {
	if age := i.age(); age > 10 {
		return fmt.Sprintf("stale %d", age)
	}
	return "alive"
}

// say signs a statement with the key that is active.
func (i *Issuer) say(claims map[string]any) string {
	all := map[string]any{"iss": i.url}
	maps.Copy(all, claims)
	k := i.keys[0]
	return k.jws(map[string]any{"alg": "ES256", "kid": k.id, "typ": "revocations+jwt"}, all)
}

func (i *Issuer) serveFeed(w http.ResponseWriter, r *http.Request, fault Fault) {
	stream := strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	text := r.URL.Query().Get("after")
	if last := r.Header.Get("Last-Event-ID"); stream && last != "" {
		text = last
	}
	after := int64(0)
	if text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > maxNumber {
			http.Error(w, `{"code":"invalid_request"}`, http.StatusBadRequest)
			return
		}
		after = n
	}
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("Cache-Control", "no-cache")
	if stream {
		i.serveStream(w, r, after, fault)
		return
	}
	statement, entries, _ := i.since(after)
	w.Header().Set("Content-Type", "application/revocations+jwt")
	w.Header().Set("Authserver-Feed-Age", strconv.FormatInt(i.age(), 10))
	answer(w, r, []byte(statement), `W/"`+hash(entries)+`"`)
}

// serveStream sends what there is, then every change, and a sign of life every
// ten seconds.
func (i *Issuer) serveStream(w http.ResponseWriter, r *http.Request, after int64, fault Fault) {
	i.mu.Lock()
	cut := i.cut
	i.mu.Unlock()
	flusher, ok := w.(http.Flusher)
	if !ok || fault == BufferedStreams {
		wait(r, i.closed)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	alive := time.NewTicker(10 * time.Second)
	defer alive.Stop()
	for {
		i.mu.Lock()
		changed := i.feed.changed
		i.mu.Unlock()
		statement, _, seq := i.since(after)
		after = seq
		fmt.Fprintf(w, "id: %d\nevent: revocations\ndata: %s\n\n", seq, statement)
		flusher.Flush()
		for idle := true; idle; {
			select {
			case <-changed:
				idle = false
			case <-alive.C:
				fmt.Fprintf(w, ": %s\n\n", i.pulse())
				flusher.Flush()
			case <-cut:
				panic(http.ErrAbortHandler)
			case <-i.closed:
				return
			case <-r.Context().Done():
				return
			}
		}
	}
}
