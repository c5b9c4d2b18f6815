package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// scenario is everything that decides a run. The same scenario gives the same run.
type scenario struct {
	Seed  uint64
	Shape string
	Warm  time.Duration // the pod's life before its stop

	Grace, RealGrace      time.Duration // as configured, and as kubelet keeps it
	Propagation, QuietMax time.Duration
	Routed                time.Duration // the balancer sends new connections for so long after the deletion
	ProxyFirst, Observe   bool
	Job                   bool // its app ends by itself; nobody deletes it
	Token, Handover       bool
	AppDrain, DrainCloses bool // the app has a drain URL; it closes its port when that is called
	AppManner             string
	AppExits              time.Duration
	Gradual               time.Duration
	HooksLate             time.Duration // of the containers that are not the agent
	Carried               string        // containers whose hooks come through the proxy's, as Istio's agent carries those that are HTTP
	Sleep                 time.Duration // observe mode: today's hook of the app
	Before                string
	Clients               []clientSpec
	Faults                []fault
	AcceptLoss            float64 // 0: the default
	dropped               []string
}

// fault is something that goes wrong for a while, from a time after the deletion on.
type fault struct {
	Kind      string
	From, For time.Duration
	Takes     time.Duration // of a slow answer
}

// always is a fault that the pod has from its start to its end.
func always(kind string) fault { return fault{Kind: kind, From: -time.Hour, For: 2 * time.Hour} }

// random is the scenario of a seed.
func random(seed uint64) scenario {
	d := newDice(seed, "scenario", 0)
	sc := scenario{
		Seed: seed, Shape: pick(d, native, native, native, outlives, classic, hookless),
		Warm: d.between(3*sec, 30*sec), Grace: pick(d, 30*sec, 30*sec, 60*sec, 15*sec, 12*sec),
		Propagation: pick(d, 1500*ms, 1500*ms, 1500*ms, 5*sec, 12*sec), QuietMax: pick(d, 15*sec, 15*sec, 4*sec, time.Second),
		ProxyFirst: d.chance(0.15), Token: d.chance(0.5), Handover: d.chance(0.2), Observe: d.chance(0.03),
		AppManner: pick(d, atOnce, atOnce, graceful, graceful, graceful, stubborn), AppExits: d.between(5*ms, 400*ms),
		Gradual: pick(d, 0, 600*sec, 600*sec), Sleep: d.between(0, 8*sec),
	}
	sc.Routed = kubeProxy(d)
	if d.chance(0.15) {
		sc.Routed = cloudBalancer(d)
	}
	if d.chance(0.2) {
		sc.AppDrain, sc.DrainCloses = true, d.chance(0.5)
	}
	if sc.RealGrace = sc.Grace; d.chance(0.04) && sc.Shape != hookless {
		sc.RealGrace = d.between(4*sec, sc.Grace)
	}
	switch sc.Shape {
	case hookless:
		sc.HooksLate = d.between(20*ms, 1300*ms)
	case classic:
		sc.HooksLate = d.between(0, 300*ms)
	}
	if carried := newDice(seed, "carried", 0); sc.Shape == outlives && carried.chance(0.4) {
		sc.Carried = pick(carried, "app", "app agent")
	}
	if d.chance(0.2) {
		sc.Before = pick(d, "restart", "strangers", "maintenance")
		sc.Warm = sc.Grace + 90*sec
	}
	if strangers := newDice(seed, "strangers", 0); sc.DrainCloses && strangers.chance(0.4) { // what nobody thought of is tried often
		sc.Before, sc.Warm = "strangers", sc.Grace+90*sec
	}
	if again := newDice(seed, "again", 0); again.chance(0.1) && (sc.Token || sc.AppManner != stubborn) { // else a stranger can take the stop back: a limit, in docs/explanation/threats.md
		sc.Faults = append(sc.Faults, fault{Kind: "called again", Takes: again.between(0, pick(again, 200*ms, 3*sec))})
	}
	if page := newDice(seed, "page", 0); sc.DrainCloses && page.chance(0.3) { // hangs while propagation ends, and with it all else that is waited for
		from := page.between(-500*ms, sc.Propagation-1300*ms)
		sc.Faults = append(sc.Faults, fault{Kind: "app hangs", From: from, For: sc.Propagation + page.between(300*ms, 8*sec) - from})
	}
	if wish := newDice(seed, "wish", 0); sc.Before == "maintenance" && wish.chance(0.5) {
		sc.Before = "wish"
	}
	sc.unusual()
	for range d.IntN(4) {
		sc.Clients = append(sc.Clients, randomClient(d))
	}
	if idle := newDice(seed, "idle", 0); idle.chance(0.3) && sc.checked() { // an idle pod shows best what only checks cost
		sc.Clients = slices.DeleteFunc(sc.Clients, func(c clientSpec) bool { return c.Kind != check })
	}
	if d.chance(0.5) {
		for range 1 + d.IntN(2) {
			sc.Faults = append(sc.Faults, randomFault(d, &sc))
		}
	}
	if newDice(seed, "job", 0).chance(0.02) {
		sc.asJob()
	}
	return sc
}

// unusual adds what seldom comes and has broken the agent before, each with dice of its own.
func (sc *scenario) unusual() {
	if late := newDice(sc.Seed, "before", 0); sc.Before == "" && late.chance(0.06) {
		sc.Before, sc.Warm = pick(late, "strangers again", "agent killed"), sc.Grace+90*sec
	}
	if page := newDice(sc.Seed, "slow page", 0); sc.Before == "restart" && page.chance(0.4) {
		f := always("app slow")
		f.Takes = page.between(1100*ms, 4*sec)
		sc.Faults = append(sc.Faults, f)
	}
	if probe := newDice(sc.Seed, "check", 0); probe.chance(0.1) {
		every := pick(probe, sec, sec, 5*sec, 10*sec)
		for range 1 + probe.IntN(3) { // readiness alone, or liveness too, or a balancer that knows the pod by its address
			sc.Clients = append(sc.Clients, clientSpec{Kind: check, Every: every})
		}
	}
	if death := newDice(sc.Seed, "early death", 0); (sc.Shape == native || sc.Shape == outlives && sc.Carried != "app agent") && death.chance(0.04) { // kubelet does not know yet, and calls its hook; where none but that one comes the agent hears of no stop
		sc.Faults = append(sc.Faults, fault{Kind: pick(death, "app dies", "proxy dies"), From: death.between(-200*ms, 60*ms)})
	}
	if death := newDice(sc.Seed, "carrier", 0); sc.Carried != "" && death.chance(0.6) {
		sc.Faults = append(sc.Faults, fault{Kind: "proxy dies", From: death.between(200*ms, 8*sec)})
		slow := always("admin slow") // for a mesh of some size: it is asked every 0.1 to 0.4 s
		slow.Takes = death.between(5*ms, 20*ms)
		sc.Faults = append(sc.Faults, slow)
	}
	if end := newDice(sc.Seed, "finish again", 0); sc.fault("called again") && !sc.Token && end.chance(0.5) {
		sc.Faults = append(sc.Faults, fault{Kind: "operator finishes", From: end.between(100*ms, sc.Propagation+sec)})
	}
}

// kubeProxy is how long new connections still come: the endpoint is not ready after 0.01 to 0.17 s, the node's rules follow 0.9 to 1.06 s later (measured).
func kubeProxy(d dice) time.Duration { return d.between(10*ms, 170*ms) + d.between(900*ms, 1060*ms) }

// cloudBalancer takes longer than --propagation was told.
func cloudBalancer(d dice) time.Duration { return d.between(2*sec, 15*sec) }

func randomClient(d dice) clientSpec {
	rare := pick(d, 300*ms, sec, 3*sec, 10*sec, 30*sec)
	switch pick(d, fresh, fresh, pooled, pooled, pooled, multi, slow, stream, knock) {
	case fresh:
		return clientSpec{Kind: fresh, Every: d.between(20*ms, sec)}
	case pooled:
		c := clientSpec{Kind: pooled, Conns: 1 + d.IntN(40), Every: rare, Poisson: d.chance(0.3), Burst: d.chance(0.2)}
		if d.chance(0.2) {
			c.Every = 0
		}
		if d.chance(0.3) {
			c.Work = d.between(sec, 20*sec)
		}
		return c
	case multi:
		return clientSpec{Kind: multi, Conns: 1 + d.IntN(5), Every: d.between(50*ms, 2*sec), Deaf: d.chance(0.1)}
	case slow:
		return clientSpec{Kind: slow, Conns: 1 + d.IntN(3), Every: d.between(2*sec, 20*sec), Work: d.between(10*ms, 200*ms), Size: 1_000_000 + d.Int64N(7_000_000), Rate: 500_000 + 2e6*d.Float64(), Stalls: d.chance(0.2)}
	case stream:
		return clientSpec{Kind: stream, Conns: 1 + d.IntN(3), Every: d.between(2*sec, 30*sec), Work: d.between(2*sec, 40*sec)}
	}
	return clientSpec{Kind: knock, Every: d.between(sec, 10*sec)}
}

func randomFault(d dice, sc *scenario) fault {
	f := fault{Kind: pick(d, "admin hangs", "admin slow", "app hangs", "app slow", "statistics hidden", "requests hidden", "sockets hidden", "actions fail", "app dies", "proxy dies", "configuration pushed", "operator finishes")}
	f.From, f.For, f.Takes = d.between(-2*sec, 6*sec), d.between(100*ms, 8*sec), d.between(20*ms, 400*ms)
	switch f.Kind {
	case "statistics hidden", "requests hidden", "sockets hidden":
		if d.chance(0.5) {
			f = always(f.Kind)
		}
	case "app dies", "proxy dies", "operator finishes":
		f.From = d.between(200*ms, 8*sec)
	}
	if f.Kind == "configuration pushed" {
		f.For = d.between(50*ms, time.Second)
	}
	return f
}

// policy is the agent's, as its flags would make it.
func (sc *scenario) policy() drain.Policy {
	p := drain.Defaults()
	p.Grace, p.Propagation, p.QuietMax = sc.Grace, sc.Propagation, sc.QuietMax
	p.Observe, p.AppDrain, p.ExitWith = sc.Observe, sc.AppDrain, sc.exitWith()
	p.AcceptLoss = cmp.Or(sc.AcceptLoss, p.AcceptLoss)
	p.Containers = slices.Clone(p.Containers)
	p.Containers[0].Sleep = sc.Sleep
	if sc.ProxyFirst {
		p.Containers[0].Stage, p.Containers[1].Stage = 1, 0
	}
	p.Containers[1].Outlives = sc.Shape == outlives
	if sc.Shape == hookless {
		p.Hooks = 0b011
	}
	return p
}

// drop leaves parts of the scenario out: what a failure does not need.
func (sc *scenario) drop(part string) bool {
	kind, n := part, 0
	if i := strings.IndexAny(part, "0123456789"); i >= 0 {
		kind = part[:i]
		var err error
		if n, err = strconv.Atoi(part[i:]); err != nil {
			return false
		}
	}
	sc.dropped = append(slices.Clone(sc.dropped), part)
	switch {
	case kind == "client" && n < len(sc.Clients) && sc.Clients[n].Kind != "":
		sc.Clients = slices.Clone(sc.Clients)
		sc.Clients[n] = clientSpec{} // the others keep their numbers, and with them their dice
	case kind == "half" && n < len(sc.Clients) && sc.Clients[n].Conns > 1:
		sc.Clients = slices.Clone(sc.Clients)
		sc.Clients[n].Conns /= 2
	case kind == "fault" && n < len(sc.Faults) && sc.Faults[n].Kind != "":
		sc.Faults = slices.Clone(sc.Faults)
		sc.Faults[n] = fault{}
	case part == "before" && sc.Before != "":
		sc.Before = ""
	case part == "life" && sc.Warm > 4*sec && sc.Before == "":
		sc.Warm /= 2
	case part == "late" && sc.HooksLate > 0:
		sc.HooksLate = 0
	case part == "handover" && sc.Handover:
		sc.Handover = false
	case part == "carried" && sc.Carried != "":
		sc.Carried = ""
	default:
		return false
	}
	return true
}

// parts are all that may be left out.
func (sc *scenario) parts() []string {
	parts := []string{"before", "life", "late", "handover", "carried"}
	for i := range sc.Faults {
		parts = append(parts, fmt.Sprint("fault", i))
	}
	for i := range sc.Clients {
		parts = append(parts, fmt.Sprint("client", i), fmt.Sprint("half", i))
	}
	return parts
}
