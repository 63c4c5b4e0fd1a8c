package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"example.com/authserver/test/rig"
)

// balance starts a load balancer before nodes, and returns when all of them get
// requests.
func balance(t *testing.T, nodes []*node) *rig.Balancer {
	t.Helper()
	var places []rig.Place
	for _, n := range nodes {
		places = append(places, rig.Place{URL: n.URL, Ready: n.ready})
	}
	b, err := rig.NewBalancer(places...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.AwaitAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// ready asks the node whether it is.
func (n *node) ready() error {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get(n.Ops + "/readyz")
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz says %s", resp.Status)
	}
	return nil
}
