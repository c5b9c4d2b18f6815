package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// fakeAgent holds every hook until release is closed, and remembers what it was told.
type fakeAgent struct {
	release chan struct{}

	mu       sync.Mutex
	called   []call
	arrived  *sync.Cond
	operated []string
}

type call struct {
	container string
	authentic bool
	left      bool // the caller was gone before the answer
}

func newFakeAgent() *fakeAgent {
	f := &fakeAgent{release: make(chan struct{})}
	f.arrived = sync.NewCond(&f.mu)
	return f
}

func (f *fakeAgent) agent() Agent {
	return Agent{
		Hook:    f.hook,
		Status:  func(EventPage) any { return map[string]any{"phase": "serving"} },
		Operate: f.operate,
	}
}

func (f *fakeAgent) hook(ctx context.Context, container string, authentic bool) HookAnswer {
	f.mu.Lock()
	at := len(f.called)
	f.called = append(f.called, call{container: container, authentic: authentic})
	f.arrived.Broadcast()
	f.mu.Unlock()
	select {
	case <-f.release:
	case <-ctx.Done():
		f.mu.Lock()
		f.called[at].left = true
		f.arrived.Broadcast()
		f.mu.Unlock()
	}
	return HookAnswer{Container: container, HeldMS: 7, Phase: "stopping", Outcome: "clean"}
}

func (f *fakeAgent) operate(verb, reason string) (string, error) {
	if reason == "refuse" {
		return "", errors.New("nothing to " + verb)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.operated = append(f.operated, verb+": "+reason)
	return "did " + verb, nil
}

// waitFor blocks until the calls fulfil the condition.
func (f *fakeAgent) waitFor(cond func([]call) bool) []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !cond(f.called) {
		f.arrived.Wait()
	}
	return slices.Clone(f.called)
}

func (f *fakeAgent) waitForCalls(n int) []call {
	return f.waitFor(func(c []call) bool { return len(c) >= n })
}

func (f *fakeAgent) calls() []call { return f.waitForCalls(0) }

// asked returns what operators asked for, as "verb: reason".
func (f *fakeAgent) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.operated)
}

// start serves the agent on a free port until the test ends.
func start(t *testing.T, agent Agent, opts Options) (*Server, string) {
	t.Helper()
	opts.Listen = "127.0.0.1:0"
	s, err := New(agent, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	return s, "http://" + s.Addr().String()
}

// freshClient uses a connection of its own for each request and is cut off with the test.
func freshClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func request(t *testing.T, method, url string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	res, err := freshClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}
