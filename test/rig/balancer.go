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

	places    []place
	next      atomic.Uint64
	server    *httptest.Server
	transport *http.Transport
	stop      context.CancelFunc
	done      sync.WaitGroup
}

// Place is where a balancer sends requests.
type Place struct {
	URL   string
	Ready func() error // asks whether requests may be sent there
}

// Place is the place of n.
func (n *Node) Place() Place { return Place{n.URL, n.Ready} }

type place struct {
	Place
	proxy *httputil.ReverseProxy
	ready atomic.Bool
}

// NewBalancer starts a balancer before places.
func NewBalancer(places ...Place) (*Balancer, error) {
	ctx, stop := context.WithCancel(context.Background())
	b := &Balancer{places: make([]place, len(places)), stop: stop, transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	for i, one := range places {
		target, err := url.Parse(one.URL)
		if err != nil {
			stop()
			return nil, err
		}
		p := &b.places[i]
		p.Place, p.proxy = one, httputil.NewSingleHostReverseProxy(target)
		p.proxy.Transport = b.transport
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

// mostFailures is after how many failures in a row, ten a second, a place gets no requests.
const mostFailures = 3

func (p *place) watch(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	failed := 0
	for {
		if p.Ready() == nil {
			failed = 0
		} else {
			failed++
		}
		// One that stood still for a moment is not taken off; one that drains is long before
		// it stops.
		p.ready.Store(failed == 0 || failed < mostFailures && p.ready.Load())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// AwaitAll waits until every place gets requests.
func (b *Balancer) AwaitAll(ctx context.Context) error {
	return Poll(ctx, time.Minute, func() error {
		for i := range b.places {
			if !b.places[i].ready.Load() {
				return errors.New(b.places[i].URL + " gets no requests")
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
	b.transport.CloseIdleConnections()
}
