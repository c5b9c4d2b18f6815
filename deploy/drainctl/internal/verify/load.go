package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/secret"
)

// Request says what the load sends.
type Request struct {
	URL     string
	Header  http.Header
	Rate    float64       // requests per second, sent whatever comes back
	Timeout time.Duration // of one request
}

// Load is what became of verify's own requests.
type Load struct {
	URL      string         `json:"url"`
	Sent     int            `json:"sent"`
	Failed   int            `json:"failed"`
	ByKind   map[string]int `json:"failed_by_kind"`
	Status   int            `json:"status"`    // of the first answer: every other one is a failure
	Failures []Failure      `json:"failures"`  // the first twenty
	LatestMS int64          `json:"latest_ms"` // how late the load itself was at worst
	Missed   int            `json:"missed"`    // requests that this machine should have sent and could not
}

// Failure is one request that was not answered as the first one was.
type Failure struct {
	At       time.Time `json:"at"` // sent
	AfterMS  int64     `json:"after_ms"`
	Reused   bool      `json:"reused"` // on a connection that had served a request before
	Kind     string    `json:"kind"`
	Stopping []string  `json:"stopping"` // pods that were on their way out meanwhile
}

func (l *Load) String() string {
	text := fmt.Sprintf("load: %d requests to %s, %d failed", l.Sent, l.URL, l.Failed)
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(l.ByKind)) {
		kinds = append(kinds, fmt.Sprintf("%s: %d", kind, l.ByKind[kind]))
	}
	if len(kinds) > 0 {
		text += " (" + strings.Join(kinds, ", ") + ")"
	}
	return text
}

// loader sends requests, every second one on a connection of its own and the others over kept ones. No request is sent twice.
type loader struct {
	Request
	target *url.URL
	began  time.Time

	mu    sync.Mutex
	load  Load
	idle  []*http.ClientConn
	ended chan struct{}
	end   func()
	all   sync.WaitGroup
}

// validate reports everything that is wrong with the request.
func (r *Request) validate() error {
	var bad []error
	u, err := url.Parse(r.URL)
	switch {
	case err != nil:
		bad = append(bad, errors.New("--url cannot be read: write http://HOST/PATH or https://HOST/PATH")) // its error would show a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		bad = append(bad, errors.New("--url is no URL of a server: write http://HOST/PATH or https://HOST/PATH")) // nor shown: it may hold a secret
	}
	if r.Rate <= 0 || r.Rate > 1000 {
		bad = append(bad, fmt.Errorf("--rate=%g: write requests per second, above 0 and at most 1000", r.Rate))
	}
	if r.Timeout <= 0 {
		bad = append(bad, fmt.Errorf("--request-timeout=%v: write more than 0", r.Timeout))
	}
	return errors.Join(bad...)
}

// send begins after one request was answered; its status is what every later answer is compared with.
func (r Request) send(ctx context.Context) (*loader, error) {
	target, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	l := &loader{Request: r, target: target, began: time.Now(), ended: make(chan struct{})}
	l.load = Load{URL: secret.Hide(r.URL), ByKind: map[string]int{}, Failures: []Failure{}}
	l.end = sync.OnceFunc(func() { close(l.ended) })
	kind, status := l.exchange(ctx, false, new(bool))
	if kind != "" || status >= http.StatusInternalServerError {
		return nil, fmt.Errorf("%s is not answered before the rollout: %s", l.load.URL, orStatus(kind, status))
	}
	l.load.Status = status
	l.all.Go(func() { l.arrivals(ctx) })
	return l, nil
}

func orStatus(kind string, status int) string {
	if kind != "" {
		return kind
	}
	return fmt.Sprintf("status %d", status)
}

// arrivals starts requests at equal distances until the load ends. It never waits for an answer.
func (l *loader) arrivals(ctx context.Context) {
	gap := time.Duration(float64(time.Second) / l.Rate)
	next := time.Now()
	for kept := false; ; kept = !kept {
		select {
		case <-l.ended:
			return
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		l.late(time.Since(next))
		l.all.Go(func() { l.one(ctx, kept) })
		next = next.Add(gap)
	}
}

func (l *loader) late(by time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.load.Sent++
	l.load.LatestMS = max(l.load.LatestMS, by.Milliseconds())
}

func (l *loader) one(ctx context.Context, kept bool) {
	at, reused := time.Now(), false
	kind, status := l.exchange(ctx, kept, &reused)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case ctx.Err() != nil: // abandoned: neither answered nor failed
		l.load.Sent--
		return
	case kind == "" && status == l.load.Status:
		return
	}
	kind = orStatus(kind, status)
	l.load.Failed++
	l.load.ByKind[kind]++
	if len(l.load.Failures) < 20 {
		l.load.Failures = append(l.load.Failures, Failure{at, time.Since(at).Milliseconds(), reused, kind, []string{}})
	}
}

// exchange makes one request and reads the whole answer. It says the kind of a failure, else the status.
func (l *loader) exchange(ctx context.Context, kept bool, reused *bool) (kind string, status int) {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	for {
		conn := l.take(kept)
		if *reused = conn != nil; !*reused {
			var err error
			if conn, err = l.dial(ctx); err != nil {
				return "connect: " + kindOf(err), 0
			}
		}
		sent, kind, status, last := l.roundTrip(ctx, conn, kept)
		if *reused && !sent { // the server had closed it while nothing was under way, as servers may
			conn.Close()
			continue
		}
		if kept && kind == "" && !last {
			l.put(conn)
		} else {
			conn.Close()
		}
		return kind, status
	}
}

// roundTrip says also whether any of the request may have left, and whether the server ends the connection.
func (l *loader) roundTrip(ctx context.Context, conn *http.ClientConn, kept bool) (sent bool, kind string, status int, last bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, http.NoBody)
	if err != nil {
		return true, "request", 0, true
	}
	request.Header = l.Header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	request.Header.Set("User-Agent", "drainctl-verify")
	request.Host = request.Header.Get("Host")
	request.Close = !kept
	if conn.Err() != nil {
		return false, "", 0, true
	}
	answer, err := conn.RoundTrip(request)
	if err != nil {
		return true, kindOf(err), 0, true
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return true, "in the answer: " + kindOf(err), 0, true
	}
	return true, "", answer.StatusCode, answer.Close
}

func (l *loader) take(kept bool) *http.ClientConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !kept || len(l.idle) == 0 {
		return nil
	}
	c := l.idle[0] // the longest idle one: the likeliest to be closed
	l.idle = l.idle[1:]
	return c
}

func (l *loader) put(c *http.ClientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idle = append(l.idle, c)
}

// dial opens a connection of HTTP/1.1. http.ClientConn does not repeat requests; http.Transport does.
func (l *loader) dial(ctx context.Context) (*http.ClientConn, error) {
	port := l.target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[l.target.Scheme]
	}
	transport := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	transport.Protocols.SetHTTP1(true)
	return transport.NewClientConn(ctx, l.target.Scheme, net.JoinHostPort(l.target.Hostname(), port))
}

func kindOf(err error) string {
	var timeout net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &certificate):
		return "certificate: " + certificate.Err.Error()
	case strings.Contains(err.Error(), "refused"):
		return "refused"
	case strings.Contains(err.Error(), "reset"), strings.Contains(err.Error(), "broken pipe"):
		return "reset"
	case strings.Contains(err.Error(), "EOF"):
		return "closed before the answer"
	}
	return "failed"
}

// stop ends the load, waits for what is under way, and says which pods were going when requests failed.
func (l *loader) stop(pods func() []seenPod) *Load {
	l.end()
	took := time.Since(l.began)
	l.all.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.idle {
		c.Close()
	}
	l.load.Missed = max(0, int(took.Seconds()*l.Rate)-l.load.Sent)
	for i := range l.load.Failures {
		f := &l.load.Failures[i]
		ended := f.At.Add(time.Duration(f.AfterMS) * time.Millisecond)
		for _, p := range pods() {
			if !p.Deleted.IsZero() && !ended.Before(p.Deleted) && (p.Gone.IsZero() || !f.At.After(p.Gone)) {
				f.Stopping = append(f.Stopping, p.Last.Name)
			}
		}
	}
	load := l.load
	return &load
}

// findings judges the load.
func (l *Load) findings() (found []Finding) {
	if l.Failed > 0 {
		meanwhile := map[string]bool{}
		for _, f := range l.Failures {
			for _, pod := range f.Stopping {
				meanwhile[pod] = true
			}
		}
		who := "no pod was on its way out then: look at the way from here to the Service first"
		if len(meanwhile) > 0 {
			who = "while these pods were on their way out: " + strings.Join(slices.Sorted(maps.Keys(meanwhile)), ", ")
		}
		found = append(found, Finding{
			Error, "lost-requests", "", fmt.Sprintf("%d of %d requests failed, %s", l.Failed, l.Sent, who),
			"the findings of the pods say why; if every stop was clean, a balancer before the pods sends for longer than the agent waits: raise --propagation, or say --preset",
		})
	}
	if l.Missed*10 > l.Sent {
		found = append(found, Finding{Error, "load-narrow", "", fmt.Sprintf("this machine sent only %d requests, %d fewer than it should have: what it did not lose says little", l.Sent, l.Missed), "lower --rate, or run verify elsewhere"})
	}
	return found
}
