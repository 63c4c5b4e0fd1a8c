package rig

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Balancer is a load balancer as people run them: it asks /readyz of each of two
// or more places ten times a second and sends requests to those that are ready.
// It repeats no request. Which node stands in a place may change.
type Balancer struct {
	URL string

	places []place
	next   atomic.Uint64
	server *httptest.Server
	stop   context.CancelFunc
	done   sync.WaitGroup
}

type place struct {
	node  *Node
	proxy *httputil.ReverseProxy
	ready atomic.Bool
}

// NewBalancer starts a balancer before nodes, whose addresses it remembers.
func NewBalancer(nodes ...*Node) (*Balancer, error) {
	ctx, stop := context.WithCancel(context.Background())
	b := &Balancer{places: make([]place, len(nodes)), stop: stop}
	for i, n := range nodes {
		target, err := url.Parse(n.URL)
		if err != nil {
			stop()
			return nil, err
		}
		p := &b.places[i]
		p.node, p.proxy = n, httputil.NewSingleHostReverseProxy(target)
		p.proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
		b.done.Go(func() { p.watch(ctx) })
	}
	b.server = httptest.NewServer(http.HandlerFunc(b.pass))
	b.URL = b.server.URL
	return b, nil
}

func (b *Balancer) pass(w http.ResponseWriter, r *http.Request) {
	first := int(b.next.Add(1) % uint64(len(b.places)))
	for i := range b.places {
		if p := &b.places[(first+i)%len(b.places)]; p.ready.Load() {
			p.proxy.ServeHTTP(w, r)
			return
		}
	}
	http.Error(w, "no node is ready", http.StatusBadGateway)
}

func (p *place) watch(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		p.ready.Store(p.node.Ready() == nil)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// AwaitAll waits until every node gets requests.
func (b *Balancer) AwaitAll(ctx context.Context) error {
	return Poll(ctx, time.Minute, func() error {
		for i := range b.places {
			if !b.places[i].ready.Load() {
				return errors.New(b.places[i].node.Name + " gets no requests")
			}
		}
		return nil
	})
}

// Close ends the balancer.
func (b *Balancer) Close() {
	b.stop()
	b.done.Wait()
	b.server.Close()
}
