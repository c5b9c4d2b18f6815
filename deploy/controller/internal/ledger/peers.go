package ledger

import (
	"maps"
	"sync"
	"time"
)

// What one address may do before anybody knows whose it is: have so many reports open, and send so many in vain in a while. All pods of
// a node may stand behind one address.
const mostFromOne, inVainFromOne, shareEvery = 110, 100, 10 * time.Second

// peers counts reports by the address that they come from, so that no pod takes the place of all others.
type peers struct {
	mu    sync.Mutex
	since time.Time
	all   map[string]*peer
}

type peer struct{ open, vain int }

func newPeers() *peers { return &peers{all: map[string]*peer{}} }

// enter reports whether a report from there is listened to; then leave must follow.
func (p *peers) enter(address string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.since) >= shareEvery {
		p.since = now
		maps.DeleteFunc(p.all, func(_ string, one *peer) bool {
			one.vain = 0
			return one.open == 0
		})
	}
	one := p.all[address]
	if one == nil {
		one = &peer{}
		p.all[address] = one
	}
	if one.open >= mostFromOne || one.vain >= inVainFromOne {
		return false
	}
	one.open++
	return true
}

// leave says what came of it.
func (p *peers) leave(address string, vain bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.all[address]
	one.open--
	if vain {
		one.vain++
	}
}
