package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/drain-agent/drain-agent/agent/timeline"
	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
	"github.com/drain-agent/drain-agent/scripts/synced"
)

// row is one stop of one pod.
type row struct {
	Pod, How        string
	Signal, Gone    time.Duration // from the deletion to SIGTERM of the container that works, and to the end of the pod
	Work, Cut, Late int           // streams or jobs under way when they ended or were cut; those refused after the deletion
	Verdict         *timeline.Verdict
}

var graceLine = regexp.MustCompile(`terminationGracePeriodSeconds: \d+`)

// sleeping is a manifest as people have it: a sleep before SIGTERM, 0 for none, in this grace period.
func sleeping(manifest, container string, sleep, grace int) string {
	manifest = graceLine.ReplaceAllString(manifest, "terminationGracePeriodSeconds: "+strconv.Itoa(grace))
	if sleep == 0 {
		return manifest
	}
	name := "- name: " + container + "\n"
	i := strings.Index(manifest, name)
	indent := manifest[strings.LastIndex(manifest[:i], "\n")+1:i] + "  "
	return manifest[:i+len(name)] + indent + "lifecycle: {preStop: {sleep: {seconds: " + strconv.Itoa(sleep) + "}}}\n" + manifest[i+len(name):]
}

// stop deletes the pod, waits for its end and says what its events and its agent say of it.
func stop(ctx context.Context, p *pod.Pod, container string) (row, error) {
	p.Delete(nil)
	if err := p.Wait(ctx); err != nil {
		return row{}, err
	}
	var r row
	var deleted time.Time
	for _, e := range p.Events() {
		switch {
		case e.Kind == pod.Deleted:
			deleted = e.Time
		case e.Kind == pod.Sigterm && e.Container == container:
			r.Signal = e.Time.Sub(deleted)
		case e.Kind == pod.Finished:
			r.Gone = e.Time.Sub(deleted)
		}
	}
	for line, err := range timeline.Decode(strings.NewReader(string(p.Log("drain-agent")))) {
		if err == nil && line.Verdict != nil {
			r.Verdict = line.Verdict
		}
	}
	return r, nil
}

// streams are clients that read until the server says that it is done.
type streams struct {
	mu     sync.Mutex
	all    sync.WaitGroup
	begun  int
	cut    int
	whole  int
	reason []string
}

func (s *streams) open(ctx context.Context, p *pod.Pod, path string) {
	s.all.Go(func() {
		address := net.JoinHostPort(p.IP().String(), strconv.Itoa(p.Port(8000)))
		var err error
		if seconds, is := strings.CutPrefix(path, "grpc:"); is {
			err = s.call(ctx, address, seconds)
		} else {
			err = s.read(ctx, "http://"+address+path)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil {
			s.whole++
			return
		}
		s.cut++
		s.reason = append(s.reason, path+": "+err.Error())
	})
}

func (s *streams) read(ctx context.Context, url string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, Proxy: nil}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	reply, err := client.Do(req)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	lines, first := bufio.NewScanner(reply.Body), true
	for lines.Scan() {
		if first {
			s.brought()
			first = false
		}
		if lines.Text() == "data: [DONE]" {
			return nil
		}
	}
	return fmt.Errorf("cut off: %v", lines.Err())
}

// brought says that one more stream has brought something.
func (s *streams) brought() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
}

// flowing waits until n streams have brought something.
func (s *streams) flowing(ctx context.Context, n int) error {
	return synced.Until(ctx, "streams", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.begun >= n
	})
}

// serve stops a pod of the model server with these streams open.
func (l *lab) serve(ctx context.Context, name, manifest string, paths ...string) (row, error) {
	p, err := l.start(ctx, name, manifest, nil)
	if err != nil {
		return row{}, err
	}
	defer p.Close()
	var s streams
	for _, path := range paths {
		s.open(ctx, p, path)
	}
	if err := s.flowing(ctx, len(paths)); err != nil {
		return row{}, fmt.Errorf("%w: %v\n%s", err, s.reason, p.Log("server"))
	}
	r, err := stop(ctx, p, "server")
	s.all.Wait()
	r.Work, r.Cut = len(paths), s.cut
	return r, err
}

// work stops a pod of a worker when this many jobs have been under way for so long. What is not begun when the pod ends is another pod's work.
func (l *lab) work(ctx context.Context, name, manifest, server string, jobs int, seconds float64, busy int, age time.Duration) (row, error) {
	b, err := l.broker(ctx, server)
	if err != nil {
		return row{}, err
	}
	defer b.stop()
	p, err := l.start(ctx, name, manifest, map[string]string{"broker": b.dir})
	if err != nil {
		return row{}, err
	}
	defer p.Close()
	if err := l.fill(ctx, b, server, jobs, seconds); err != nil {
		return row{}, err
	}
	if err := synced.Until(ctx, "jobs under way", func() bool { return b.count(ctx, "began") >= busy }); err != nil {
		return row{}, fmt.Errorf("%w\n%s", err, p.Log("worker"))
	}
	select {
	case <-ctx.Done():
	case <-time.After(age):
	}
	before := b.count(ctx, "ended")
	r, err := stop(ctx, p, "worker")
	began, ended := b.count(ctx, "began"), b.count(ctx, "ended")
	r.Work, r.Cut = began-before, began-ended
	return r, err
}
