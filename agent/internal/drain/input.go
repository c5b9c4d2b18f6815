package drain

import "time"

// Kind says what an Input reports.
type Kind uint8

// What an input can report.
const (
	Tick           Kind = iota // only time has passed
	HookCalled                 // Container, Authentic
	Terminated                 // our own SIGTERM
	ProxySampled               // Proxy
	SocketsSampled             // Sockets
	AppSampled                 // Source, InFlight
	Seen                       // Container, Live
	Described                  // Facts
	Acted                      // Action, OK
	AskedDrain                 // an operator or the drain file
	AskedUndrain               //
	AskedFinish                //
	Restored                   // Journal: what an earlier agent process left behind
)

// Input is one thing that happened, stamped with the time since the agent started. Fields that its Kind does not name are ignored.
type Input struct {
	Kind      Kind
	At        time.Duration
	Container ID
	Authentic bool // the hook call carried the token
	Source    int
	InFlight  Reading
	Proxy     ProxySample
	Sockets   SocketSample
	Live      Liveness
	Facts     ProxyFacts
	Action    Actions
	OK        bool
	Journal   Journal
}

// Reading is a Count with its time: when the query began, and how often the source is asked.
type Reading struct {
	Count
	At    time.Duration
	Every time.Duration
}

// Fresh reports whether the reading still speaks for the moment now: not older than three periods, nor than half a second
// where that is longer.
func (r Reading) Fresh(now time.Duration) bool {
	return r.Known && now-r.At <= max(3*r.Every, 500*time.Millisecond)
}

// ProxySample is what one look at Envoy's admin gave.
type ProxySample struct {
	InFlight Reading // requests inside Envoy
	Conns    Reading // open inbound connections
	NewConns Reading // counter of accepted inbound connections
	Requests Reading // counter of inbound requests
}

// SocketSample is what one look at the inbound ports' sockets gave.
type SocketSample struct {
	Conns    Reading
	NewConns Reading // counter
}

// ProxyFacts is what is known of the Envoy itself.
type ProxyFacts struct {
	Known     bool
	Gradual   bool          // its drain strategy tells only a growing share of responses to close
	DrainTime time.Duration // the window of that strategy
	Directed  bool          // it has listeners of traffic direction INBOUND
	Uptime    time.Duration // of the Envoy process, at the time of the input
	Replaced  bool          // it is another process than the one before: nothing that was done is in force
	Handover  bool          // its owner has a drain of its own, to be called before the owner is told to stop
}

// Journal is what an earlier agent process did to the Envoy that still runs.
type Journal struct {
	Maintenance  bool // an operator's drain was in force
	HealthFailed bool // its health check was made to fail; drained listeners are not here: that cannot be undone
}
