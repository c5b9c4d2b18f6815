package server

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// replies bounds how many long replies are on their way at once, in all and to one peer: a peer that does not read keeps one in our
// memory. Who finds no place waits a little, then is told to come back; hooks and probes need none.
type replies struct {
	mu    sync.Mutex
	total int
	peers map[string]int
	freed chan struct{} // closed, and replaced, when a place was freed
}

func newReplies() *replies { return &replies{peers: map[string]int{}, freed: make(chan struct{})} }

func (l *replies) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		late := time.NewTimer(replyWait)
		defer late.Stop()
		for {
			ok, freed := l.enter(peer)
			if ok {
				break
			}
			select {
			case <-freed:
			case <-r.Context().Done():
				return
			case <-late.C:
				w.Header().Set("Retry-After", "1")
				http.Error(w, "too many replies are on their way", http.StatusServiceUnavailable)
				return
			}
		}
		defer l.leave(peer)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(longReply))
		next.ServeHTTP(w, r)
	})
}

func (l *replies) enter(peer string) (ok bool, freed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.peers[peer] == 0 && l.total < 2*maxReplies
	if !first && (l.total >= maxReplies || l.peers[peer] >= maxPeerReplies) {
		return false, l.freed
	}
	l.total++
	l.peers[peer]++
	return true, nil
}

func (l *replies) leave(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.peers[peer]--; l.peers[peer] == 0 {
		delete(l.peers, peer)
	}
	close(l.freed)
	l.freed = make(chan struct{})
}
