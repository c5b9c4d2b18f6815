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
	AppSampled                 // Source, InFlight, Closed
	Seen                       // Container, Live
	Described                  // Facts
	Acted                      // Action, OK
	AskedDrain                 // By wants maintenance
	AskedUndrain               // By does not, or no longer
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
	Closed    bool // nobody is there any more where the source is read: refused, not late
	Proxy     ProxySample
	Sockets   SocketSample
	Live      Liveness
	Looked    time.Duration // when the look at Live began, which an answer may follow late; zero: At
	Facts     ProxyFacts
	Action    Actions
	OK        bool
	By        Intent
	Journal   Journal
}

// Intent is one who may want maintenance.
type Intent uint8

// Who may want maintenance. Each undoes what it wants itself, and nobody else's.
const (
	Operator     Intent = iota // the verbs drain and undrain
	DrainFile                  // it exists
	EarlierAgent               // a journal that does not say who; the operator undoes it, or the drain file when it goes
)

// Intents is a set of them.
type Intents uint8

// Has reports whether one wants maintenance.
func (s Intents) Has(i Intent) bool { return s&(1<<i) != 0 }

// With returns the set with one more.
func (s Intents) With(i Intent) Intents { return s | 1<<i }

// Without returns the set when one no longer wants it.
func (s Intents) Without(i Intent) Intents {
	if i == Operator || s.Has(i) {
		s &^= 1 << EarlierAgent
	}
	return s &^ (1 << i)
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

	// Bytes is what Envoy has still to hand to its clients' sockets. It is known, and 0, where nothing can stand in Envoy unseen:
	// where no HTTP/2 is served, or the requests count until their last byte is handed over.
	Bytes Reading
}

// SocketSample is what one look at the inbound ports' sockets gave.
type SocketSample struct {
	Conns    Reading
	NewConns Reading // counter

	// Data is a counter of what clients have sent, in segments. It stands for requests where no Envoy counts them: of HTTP/1 without
	// pipelining these are no more than the segments; HTTP/2 may put many into one.
	Data Reading

	// Bytes and Stalled are what stands in the send queues of the inbound ports' sockets, in every state in which the kernel still
	// sends: Stalled on connections of which nothing was taken for StallAfter or longer, Bytes on the others. With hostNetwork the
	// sockets survive the pod, and they count all the same: Envoy's buffer, which does not, may be seen by nothing else.
	Bytes, Stalled Reading
}

// StallAfter is how long a connection whose client takes nothing may hold a drain.
const StallAfter = 5 * time.Second

// ProxyFacts is what is known of the Envoy itself.
type ProxyFacts struct {
	Known     bool
	Gradual   bool          // its drain strategy tells only a growing share of responses to close
	DrainTime time.Duration // the window of that strategy
	Directed  bool          // it has listeners of traffic direction INBOUND
	Uptime    time.Duration // of the Envoy process, at the time of the input
	Replaced  bool          // it is another process than the one before: nothing that was done is in force
	Requests  bool          // all that comes in are requests, and they are counted: a connection that brought none was none of a client
	Handover  bool          // its owner has a drain of its own, to be called before the owner is told to stop
	Lingers   bool          // its owner, told to stop, lets it finish first; else it breaks off at once what it has
}

// Journal is what an earlier agent process did to the Envoy that still runs.
type Journal struct {
	Wanted       Intents // who wanted maintenance
	Ended        bool    // it wrote the last verdict of this pod
	HealthFailed bool    // its health check was made to fail; drained listeners are not here: that cannot be undone
}
