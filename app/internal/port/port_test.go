package port_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/drain-agent/drain-agent/app/internal/port"
)

func h2c() *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: &p}}
}

func listen(t *testing.T, h http.HandlerFunc) (*port.Server, string) {
	t.Helper()
	s, err := port.Listen(t.Context(), "127.0.0.1:0", h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Stop(ctx)
	})
	return s, s.Addr().String()
}

// get returns the body, and whether the answer said Connection: close.
func get(t *testing.T, client *http.Client, addr string) (body string, closing bool, err error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "http://"+addr, nil)
	if err != nil {
		return "", false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", false, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), resp.Close, err
}

// A stop during a request lets it end, closes the listener at once, and returns as soon as the request is done.
func TestStopFinishesRequests(t *testing.T) {
	for name, client := range map[string]*http.Client{"http1": {Transport: &http.Transport{}}, "h2c": h2c()} {
		t.Run(name, func(t *testing.T) {
			began, release := make(chan struct{}), make(chan struct{})
			s, addr := listen(t, func(w http.ResponseWriter, _ *http.Request) {
				close(began)
				<-release
				_, _ = io.WriteString(w, "done")
			})
			answer := make(chan error, 1)
			go func() {
				body, _, err := get(t, client, addr)
				if err == nil && body != "done" {
					err = fmt.Errorf("answered %q", body)
				}
				answer <- err
			}()
			<-began
			stopped := make(chan error, 1)
			go func() { stopped <- s.Stop(context.Background()) }()
			for { // the listener closes first
				c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
				if err != nil {
					break
				}
				_ = c.Close()
			}
			select {
			case err := <-stopped:
				t.Fatalf("stopped with a request in flight: %v", err)
			default:
			}
			close(release)
			if err := <-answer; err != nil {
				t.Errorf("the request in flight: %v", err)
			}
			if err := <-stopped; err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
}

func TestStopHasADeadline(t *testing.T) {
	began := make(chan struct{})
	s, addr := listen(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	})
	go func() { _, _, _ = get(t, http.DefaultClient, addr) }()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("stop returned %v, want the deadline", err)
	}
}

// Connections that never said anything, and kept-alive ones, do not hold a stop back (net/http alone: 5 s).
func TestStopDoesNotWaitForIdleConnections(t *testing.T) {
	s, addr := listen(t, func(http.ResponseWriter, *http.Request) {})
	silent, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	kept, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	_, _ = io.WriteString(kept, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	in := bufio.NewReader(kept)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{"silent": silent, "kept-alive": in} {
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s connection: read %d bytes, %v, want it closed", name, n, err)
		}
	}
}

// A drain tells clients to leave and still serves them. It begins in the middle of the request.
func TestDrainAsksToClose(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	s, addr := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		began <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "ok")
	})
	closing := func() (said bool) {
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if _, said, err = get(t, http.DefaultClient, addr); err != nil {
				t.Error(err)
			}
		})
		<-began
		s.Drain()
		release <- struct{}{}
		wg.Wait()
		return said
	}
	if !closing() {
		t.Error("a response that began after Drain did not say Connection: close")
	}
	s.Undrain()
	go func() { <-began; release <- struct{}{} }()
	if _, closing, err := get(t, http.DefaultClient, addr); err != nil || closing {
		t.Errorf("after Undrain: close=%v err=%v, want it kept alive", closing, err)
	}
}

// The first GOAWAY on an idle HTTP/2 connection refuses nothing: a stream opened after it is still served.
func TestDrainSendsGoAwayThatRefusesNothing(t *testing.T) {
	s, addr := listen(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	raw, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(raw, http2.ClientPreface)
	fr := http2.NewFramer(raw, raw)
	_ = fr.WriteSettings()
	awaitFrame[*http2.SettingsFrame](t, fr)
	s.Drain()
	away := awaitFrame[*http2.GoAwayFrame](t, fr)
	if away.ErrCode != http2.ErrCodeNo || away.LastStreamID != 1<<31-1 {
		t.Fatalf("GOAWAY %v last stream %d, want no error and 2^31-1", away.ErrCode, away.LastStreamID)
	}
	var head strings.Builder
	enc := hpack.NewEncoder(&head)
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(head.String()), EndHeaders: true, EndStream: true})
	if data := awaitFrame[*http2.DataFrame](t, fr); string(data.Data()) != "ok" {
		t.Fatalf("answer %q, want ok", data.Data())
	}
}

// Notices slipped in among large responses break no frame: every byte arrives.
func TestNoticeKeepsFramesWhole(t *testing.T) {
	const size = 3 << 20
	var started atomic.Int32
	s, addr := listen(t, func(w http.ResponseWriter, _ *http.Request) {
		started.Add(1)
		for range size / 1500 {
			_, _ = w.Write(make([]byte, 1500))
		}
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if body, _, err := get(t, h2c(), addr); err != nil || len(body) != size/1500*1500 {
				t.Errorf("read %d bytes: %v", len(body), err)
			}
		})
	}
	for started.Load() < 4 {
		s.Drain()
	}
	s.Drain()
	wg.Wait()
}

func awaitFrame[F http2.Frame](t *testing.T, fr *http2.Framer) F {
	t.Helper()
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatalf("wait for %T: %v", *new(F), err)
		}
		if want, ok := f.(F); ok {
			return want
		}
	}
}
