// Package lifecycle is the one place that knows whether this process is starting, serving, draining or stopping.
package lifecycle

import "sync"

// State is safe for concurrent use. Make it with New.
type State struct {
	mu       sync.Mutex
	started  bool
	stopping bool
	draining chan struct{} // closed while draining
	hooks    []func(draining bool)
}

// New returns the state of a process that has just begun to start.
func New() *State { return &State{draining: make(chan struct{})} }

// Started says that initialisation is over.
func (s *State) Started() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
}

// IsStarted reports whether initialisation is over.
func (s *State) IsStarted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

// IsStopping reports whether the process was told to end. There is no way back.
func (s *State) IsStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// Draining is closed as soon as long-lived work should come to an end by itself. After an Undrain the next call
// returns an open channel again.
func (s *State) Draining() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// IsDraining reports whether a drain is on.
func (s *State) IsDraining() bool {
	select {
	case <-s.Draining():
		return true
	default:
		return false
	}
}

// OnDrain registers what else has to happen when a drain begins (true) or is taken back (false). When one is on already,
// the hook is called at once. It may be called twice for one drain.
func (s *State) OnDrain(hook func(draining bool)) {
	s.mu.Lock()
	s.hooks = append(s.hooks, hook)
	s.mu.Unlock()
	if s.IsDraining() {
		hook(true)
	}
}

// Drain asks for everything long-lived to end. New requests are still served and readiness does not change:
// whoever routes traffic here has been told by other means. Doing it twice is doing it once.
func (s *State) Drain() { s.set(true) }

// Undrain takes a drain back, unless the process is stopping.
func (s *State) Undrain() { s.set(false) }

// Stop marks the point of no return, and drains.
func (s *State) Stop() {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.Drain()
}

func (s *State) set(draining bool) {
	s.mu.Lock()
	was := isClosed(s.draining)
	if was == draining || (s.stopping && !draining) {
		s.mu.Unlock()
		return
	}
	if draining {
		close(s.draining)
	} else {
		s.draining = make(chan struct{})
	}
	hooks := s.hooks
	s.mu.Unlock()
	for _, hook := range hooks {
		hook(draining)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
