package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// soaking says how a server soaks: how long, over how many families, and with how many
// refreshes a second.
type soaking struct {
	length    time.Duration
	families  int
	perSecond int
}

// soakSample is what the server said of itself at one instant.
type soakSample struct{ goroutines, heap, rss float64 }

// measureSoak keeps a server under a steady load.
func (b *bench) measureSoak() error {
	return b.soakOn(b.postgresBed, soaking{b.soak, 100_000, 5 * b.rate})
}

// measureSoakSQLite does the same on SQLite with a tenth of everything.
func (b *bench) measureSoakSQLite() error {
	return b.soakOn(b.sqliteBed, soaking{b.soak / 10, 10_000, b.rate / 2})
}

// soakOn has a server answer a steady mix of refreshes, logins and requests for the
// key set, and watches its goroutines and its heap after a collection.
func (b *bench) soakOn(lay layBed, how soaking) (err error) {
	d, err := lay("soak", how.families, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.remove()) }()
	s, err := d.start()
	if err != nil {
		return err
	}
	defer s.stop()
	login, err := b.soakAccount(s)
	if err != nil {
		return err
	}
	ctx, end := context.WithTimeout(b.ctx, how.length)
	defer end()
	loads := []struct {
		callers   []caller
		perSecond int
	}{
		{refreshers(d.fleet, s.public, 64), how.perSecond},
		{[]caller{login}, 2},
		{[]caller{&anyGetter{fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", jwksPath, s.public)}}, 20},
	}
	failed := make(chan error, len(loads))
	n := 0
	for _, l := range loads {
		go func() {
			t, err := follow(b.ctx, s.public, l.callers, course{until: ctx.Done(), perSecond: l.perSecond})
			if len(l.callers) > 1 {
				n = t.n
			}
			failed <- err
		}()
	}
	samples, err := b.watchSoak(ctx, s, how.length)
	end()
	for range loads {
		err = errors.Join(err, <-failed)
	}
	if err != nil {
		return err
	}
	if err := b.reportSoak(d.engine, samples, how.length, n); err != nil {
		return err
	}
	return b.auditBed(d)
}

// watchSoak samples sixty times, or every two seconds where that is seldom.
func (b *bench) watchSoak(ctx context.Context, s *authserver, length time.Duration) (samples []soakSample, err error) {
	tick := time.NewTicker(max(2*time.Second, length/60))
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return nil, errors.New("the server ended: " + tail(s.log))
		case <-ctx.Done():
			return samples, b.ctx.Err()
		case <-tick.C:
		}
		// The profile is of no interest; gc=1 collects first.
		if _, err := fetch(b.ctx, "http://"+s.operations+"/debug/pprof/heap?gc=1"); err != nil {
			return nil, err
		}
		values, err := readMetrics(b.ctx, s)
		if err != nil {
			return nil, err
		}
		samples = append(samples, soakSample{values["go_goroutines"], values["go_memstats_heap_alloc_bytes"], float64(memoryOf(s.pid(), "status", "VmRSS"))})
	}
}

// reportSoak compares the last third with the one in the middle; the first is
// for caches and pools to fill.
func (b *bench) reportSoak(engine string, samples []soakSample, length time.Duration, refreshes int) error {
	third := len(samples) / 3
	if third < 2 {
		return fmt.Errorf("only %d samples were taken", len(samples))
	}
	growth := func(of func(soakSample) float64) (from, to float64) {
		var middle, last []float64
		for n := range third {
			middle, last = append(middle, of(samples[third+n])), append(last, of(samples[len(samples)-third+n]))
		}
		return median(middle), median(last)
	}
	from, to := growth(func(s soakSample) float64 { return s.goroutines })
	b.report.atMost(engine+", soak: goroutines at the end / in the middle", to/from, "", 1.1, "%.0f and %.0f; %s, %d refreshes, medians of %d samples", to, from, length, refreshes, third)
	from, to = growth(func(s soakSample) float64 { return s.heap })
	b.report.atMost(engine+", soak: heap at the end / in the middle", to/from, "", 1.1, "%.1f and %.1f MiB in use after a collection", to/mib, from/mib)
	from, to = growth(func(s soakSample) float64 { return s.rss })
	b.report.note(engine+", soak: resident memory at the end", to/mib, "MiB", "%.1f MiB in the middle", from/mib)
	return nil
}

// soakAccount registers somebody who then logs in over and over.
func (b *bench) soakAccount(s *authserver) (*loginCaller, error) {
	const email = "soak@bench.example"
	w, err := dial(b.ctx, s.public)
	if err != nil {
		return nil, err
	}
	defer w.conn.Close()
	body := fmt.Sprintf(`{"email":%q,"password":%q}`, email, thePassword)
	status, answer, err := w.do(post(s.public, "/v1/users", body))
	if err != nil || status != 201 {
		return nil, fmt.Errorf("register: %d %.300s (%w)", status, answer, err)
	}
	return &loginCaller{sent: loginRequest(s.public, email)}, nil
}

// anyGetter asks for one thing over and over and wants 200.
type anyGetter struct{ sent []byte }

// request implements caller.
func (g *anyGetter) request() []byte { return g.sent }

// answered implements caller.
func (g *anyGetter) answered(status int, body []byte) error {
	if status != 200 {
		return fmt.Errorf("the key set: %d %.300s", status, body)
	}
	return nil
}
