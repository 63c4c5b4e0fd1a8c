package verifytest

import (
	"context"
	"testing"
	"time"

	"example.com/authserver/verify"
)

// patience is how long a verifier may take to hear what was said, on a machine
// that is busy with other tests.
const patience = 30 * time.Second

// follower is a feed that this issuer made.
type follower struct {
	feed  *verify.Feed
	heard chan struct{}
}

// await waits until the feed holds a number that will do.
func (f *follower) await(t testing.TB, will func(seq int64) bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !will(f.feed.State().Seq) {
		select {
		case <-f.heard:
		case <-late.C:
			t.Fatalf("verifytest: a verifier has not heard of a revocation within %v: %+v", patience, f.feed.State())
		}
	}
}

// Keys returns a key set that follows the issuer's, closed with the test.
func (i *Issuer) Keys(change ...func(*verify.RemoteConfig)) *verify.Remote {
	i.t.Helper()
	c := verify.RemoteConfig{URL: i.KeysURL(), Client: i.client}
	for _, f := range change {
		f(&c)
	}
	keys, err := verify.RemoteKeys(c)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { _ = keys.Close() })
	return keys
}

// Feed returns the issuer's feed, followed over keys and closed with the test.
func (i *Issuer) Feed(keys verify.KeySet, change ...func(*verify.FeedConfig)) *verify.Feed {
	i.t.Helper()
	c := verify.FeedConfig{Issuer: i.url, Keys: keys, Client: i.client}
	for _, f := range change {
		f(&c)
	}
	heard := make(chan struct{}, 1)
	theirs := c.OnFeed
	c.OnFeed = func(s verify.FeedState) {
		select {
		case heard <- struct{}{}:
		default:
		}
		if theirs != nil {
			theirs(s)
		}
	}
	feed, err := verify.FollowRevocations(c)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { _ = feed.Close() })
	i.mu.Lock()
	defer i.mu.Unlock()
	i.followers = append(i.followers, &follower{feed, heard})
	return feed
}

// Verifier returns a verifier for tokens of audience that follows the issuer's
// keys and revocations. It is ready when it is returned, unless a Fault stands
// in the way.
func (i *Issuer) Verifier(audience string, change ...func(*verify.Config)) *verify.Verifier {
	i.t.Helper()
	keys := i.Keys()
	c := verify.Config{Issuer: i.url, Audience: audience, Keys: keys, Revocations: i.Feed(keys)}
	for _, f := range change {
		f(&c)
	}
	v, err := verify.New(c)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	broken := i.fault != None || i.feedFault != None
	i.mu.Unlock()
	if c.Revocations != nil && !broken {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Revocations.Ready(ctx); err != nil {
			i.t.Fatal(err)
		}
	}
	return v
}
