package obs

import (
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// described is how a descriptor spells its name and its labels.
var described = regexp.MustCompile(`fqName: "(authserver_[a-z_]+)".*variableLabels: \{([^}]*)\}`)

// docs/metrics.md has every metric of this server with its labels, and no other.
func TestMetrics_areDocumented(t *testing.T) {
	m := New(Build{}, slog.New(slog.DiscardHandler))
	NewChores(m)
	m.WatchPool(nil) // nothing is read here, so there is nothing to watch
	m.WatchHashing(nil, nil)
	m.WatchKeys(nil)
	m.WatchFeed(nil)
	m.WatchVerifiers(nil, nil)

	var registered, documented []string
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		m.registry.Describe(descs)
	}()
	for d := range descs {
		found := described.FindStringSubmatch(d.String())
		if found == nil {
			continue // of Go or of the process
		}
		name := found[1]
		if found[2] != "" {
			name += "{" + strings.ReplaceAll(found[2], " ", "") + "}"
		}
		registered = append(registered, name)
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## All of them")
	for _, row := range regexp.MustCompile("(?m)^\\| `(authserver_[^`]+)` ").FindAllStringSubmatch(table, -1) {
		documented = append(documented, row[1])
	}
	slices.Sort(registered)
	slices.Sort(documented)
	if diff := cmp.Diff(registered, documented); diff != "" {
		t.Errorf("docs/metrics.md (-registered +documented)\n%s", diff)
	}
}
