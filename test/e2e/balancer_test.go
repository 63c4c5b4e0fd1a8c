package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer is a load balancer as people run them: it asks /readyz of each node
// ten times a second and sends requests to those that are ready. It repeats no
// request.
type balancer struct {
	url   string
	nodes []*node
	ready []atomic.Bool
	next  atomic.Uint64
	stop  chan struct{}
	done  sync.WaitGroup
}

func newBalancer(t *testing.T, nodes []*node) *balancer {
	b := &balancer{nodes: nodes, ready: make([]atomic.Bool, len(nodes)), stop: make(chan struct{})}
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	proxies := make([]*httputil.ReverseProxy, len(nodes))
	for i, n := range nodes {
		target, err := url.Parse(n.URL)
		if err != nil {
			t.Fatal(err)
		}
		proxies[i] = httputil.NewSingleHostReverseProxy(target)
		proxies[i].Transport = transport
		b.done.Go(func() { b.watch(i) })
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first := int(b.next.Add(1))
		for i := range nodes {
			if at := (first + i) % len(nodes); b.ready[at].Load() {
				proxies[at].ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, "no node is ready", http.StatusBadGateway)
	}))
	b.url = server.URL
	t.Cleanup(func() {
		server.Close()
		close(b.stop)
		b.done.Wait()
		transport.CloseIdleConnections()
	})
	b.awaitAll()
	return b
}

func (b *balancer) watch(i int) {
	probe := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		resp, err := probe.Get(b.nodes[i].Ops + "/readyz")
		b.ready[i].Store(err == nil && resp.StatusCode == http.StatusOK)
		if err == nil {
			resp.Body.Close()
		}
		select {
		case <-b.stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// awaitAll waits until every node gets requests.
func (b *balancer) awaitAll() {
	for i := range b.ready {
		for !b.ready[i].Load() {
			select {
			case <-b.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

func contains(s, part string) bool { return strings.Contains(s, part) }
