package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// caller is one client of a server: it sends a request when the answer to the
// one before has come. Its methods are called by one goroutine.
type caller interface {
	// request returns the bytes of the next request, valid until the answer.
	request() []byte
	// answered judges the answer; an error ends the measurement.
	answered(status int, body []byte) error
}

// wire is a connection that is kept alive. It understands of HTTP/1.1 what the
// server speaks and no more, because every microsecond it takes is taken from
// the server it measures.
type wire struct {
	conn   net.Conn
	buffer []byte
}

func dial(ctx context.Context, address string) (*wire, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	return &wire{conn, make([]byte, 16<<10)}, err
}

// do sends a request and reads the answer. body is valid until the next call.
func (w *wire) do(request []byte) (status int, body []byte, err error) {
	if _, err := w.conn.Write(request); err != nil {
		return 0, nil, err
	}
	have, head, whole := 0, 0, 0
	for whole == 0 || have < whole {
		if have == len(w.buffer) {
			return 0, nil, fmt.Errorf("the answer is longer than %d bytes", len(w.buffer))
		}
		n, err := w.conn.Read(w.buffer[have:])
		if err != nil {
			if errors.Is(err, io.EOF) && have > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
		have += n
		if whole > 0 {
			continue
		}
		end := bytes.Index(w.buffer[:have], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		head = end + 4
		length, err := contentLength(w.buffer[:head])
		if err != nil {
			return 0, nil, err
		}
		whole = head + length
	}
	if have > whole {
		return 0, nil, fmt.Errorf("%d bytes came after the answer", have-whole)
	}
	status, err = strconv.Atoi(string(w.buffer[9:12]))
	return status, w.buffer[head:whole], err
}

var lengthHeader = []byte("\r\nContent-Length: ")

func contentLength(head []byte) (int, error) {
	if len(head) < 12 || string(head[:9]) != "HTTP/1.1 " {
		return 0, fmt.Errorf("want an answer of HTTP/1.1, got %.100q", head)
	}
	at := bytes.Index(head, lengthHeader)
	if at < 0 {
		return 0, fmt.Errorf("want an answer with Content-Length, got %.300q", head)
	}
	digits, _, _ := bytes.Cut(head[at+len(lengthHeader):], []byte("\r"))
	return strconv.Atoi(string(digits))
}

// tally is what a measurement counted.
type tally struct {
	n         int
	elapsed   time.Duration
	latencies []time.Duration // sorted
	cpu       []time.Duration // of each meter
	load      time.Duration   // CPU of what made the load
	busy      time.Duration   // CPU that the whole machine spent meanwhile
}

func (t tally) rate() float64 { return float64(t.n) / t.elapsed.Seconds() }

// others is the part of the machine's CPU that went to neither rival: a neighbour
// that compiles spoils absolute figures, and ratios less.
func (t tally) others() float64 {
	rest := t.busy - t.load
	for _, cpu := range t.cpu {
		rest -= cpu
	}
	return max(0, float64(rest)/float64(t.elapsed)/float64(runtime.NumCPU()))
}

// each returns a CPU time for each request, in microseconds.
func (t tally) each(cpu time.Duration) float64 { return micros(cpu) / float64(max(1, t.n)) }

// warmUp is for how long the callers run before anything counts.
const warmUp = time.Second

// course says how long a load goes on and how hard it is. The first bound that is
// reached ends it; a zero one is none.
type course struct {
	seconds   int
	answers   int
	until     <-chan struct{}
	perSecond int // requests of all callers together; 0: each as soon as it was answered
}

// drive lets all callers run against address for so many seconds, or until
// they were answered so many times where seconds is 0. meters are read at both
// ends.
func drive(ctx context.Context, address string, callers []caller, seconds, answers int, meters ...func() time.Duration) (tally, error) {
	return follow(ctx, address, callers, course{seconds: seconds, answers: answers}, meters...)
}

// follow is drive for any course.
func follow(ctx context.Context, address string, callers []caller, c course, meters ...func() time.Duration) (tally, error) {
	answers := c.answers
	var counting, over atomic.Bool
	var left atomic.Int64
	left.Store(int64(answers))
	spent := make(chan struct{})
	var spentOnce sync.Once
	all := make([][]time.Duration, len(callers))
	failed := make([]error, len(callers))
	wires := make([]*wire, len(callers))
	for i := range callers {
		var err error
		if wires[i], err = dial(ctx, address); err != nil {
			return tally{}, err
		}
		defer wires[i].conn.Close()
	}
	var running sync.WaitGroup
	for i, caller := range callers {
		turns := turnsOf(i, len(callers), c.perSecond)
		running.Go(func() {
			for !over.Load() {
				counts := counting.Load()
				began := turns.next()
				status, body, err := wires[i].do(caller.request())
				took := time.Since(began)
				if err == nil {
					err = caller.answered(status, body)
				}
				if err != nil {
					failed[i] = err
					over.Store(true)
					spentOnce.Do(func() { close(spent) })
					return
				}
				if counts && !over.Load() {
					all[i] = append(all[i], took)
				}
				if answers > 0 && counts && left.Add(-1) <= 0 {
					spentOnce.Do(func() { close(spent) })
				}
			}
		})
	}

	pause(ctx, spent, nil, warmUp)
	before := readAll(meters)
	load, busy, began := cpuOfSelf(), busyTime(), time.Now()
	counting.Store(true)
	length := time.Duration(c.seconds) * time.Second
	if c.seconds == 0 {
		length = longest
	}
	pause(ctx, spent, c.until, length)
	over.Store(true)
	t := tally{elapsed: time.Since(began), load: cpuOfSelf() - load, busy: busyTime() - busy, cpu: readAll(meters)}
	for i := range t.cpu {
		t.cpu[i] -= before[i]
	}
	running.Wait()
	for _, latencies := range all {
		t.latencies = append(t.latencies, latencies...)
	}
	slices.Sort(t.latencies)
	t.n = len(t.latencies)
	err := errors.Join(append(failed, ctx.Err())...)
	if err == nil && t.n == 0 {
		err = errors.New("no request was answered")
	}
	return t, err
}

// longest bounds a load that has no bound of time.
const longest = 3 * time.Hour

func pause(ctx context.Context, spent, until <-chan struct{}, length time.Duration) {
	select {
	case <-ctx.Done():
	case <-spent:
	case <-until:
	case <-time.After(length):
	}
}

// turns are the instants at which one of several callers sends, evenly spread.
type turns struct {
	due   time.Time
	every time.Duration // 0: at once
}

func turnsOf(caller, callers, perSecond int) *turns {
	if perSecond == 0 {
		return &turns{}
	}
	every := time.Second * time.Duration(callers) / time.Duration(perSecond)
	return &turns{time.Now().Add(every * time.Duration(caller) / time.Duration(callers)), every}
}

// next waits for the next turn and returns when the request's time begins: now,
// or in the past when the answer before came too late for it. So a slow answer
// is counted for every request that had to wait for it; what the timer of this
// process oversleeps is not.
func (t *turns) next() time.Time {
	if t.every == 0 {
		return time.Now()
	}
	due := t.due
	t.due = due.Add(t.every)
	wait := time.Until(due)
	if wait <= 0 {
		return due
	}
	time.Sleep(wait)
	return time.Now()
}

func readAll(meters []func() time.Duration) []time.Duration {
	values := make([]time.Duration, len(meters))
	for i, meter := range meters {
		values[i] = meter()
	}
	return values
}
