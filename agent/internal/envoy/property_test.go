package envoy_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// world is a generated configuration of Envoy and what can be asked of it.
type world struct {
	random *rand.Rand
	app    *slowApp
	dir    string
	ports  []int // TCP, that lead to the app
	what   string

	listeners, clusters []obj
	targets             []string // clusters that lead to the app
}

func (w *world) say(format string, args ...any) { w.what += " " + fmt.Sprintf(format, args...) }

func (w *world) chance(percent int) bool { return w.random.IntN(100) < percent }

// addCluster adds a way to the app: direct, through an aggregate, or any other cluster beside it.
func (w *world) addCluster(t *testing.T) {
	t.Helper()
	name := fmt.Sprintf("c%d", len(w.clusters))
	direct := cluster(name, w.app.port, nil)
	w.clusters = append(w.clusters, direct)
	if w.chance(40) {
		w.clusters = append(w.clusters, special("all-"+name, "aggregate", obj{"clusters": []string{name}}))
		name = "all-" + name
	}
	if w.say("cluster %s", name); w.chance(30) {
		w.clusters = append(w.clusters, cluster("idle-"+name, freePort(t), nil))
	}
	w.targets = append(w.targets, name)
}

// addListener adds a listener that leads to one of the clusters in one of the ways that there are.
func (w *world) addListener(t *testing.T, directed bool, logs obj) {
	t.Helper()
	port, to := freePort(t), w.targets[w.random.IntN(len(w.targets))]
	name, direction := fmt.Sprintf("l%d", len(w.listeners)), ""
	if directed {
		direction = "INBOUND"
	}
	var filter obj
	switch kind := w.random.IntN(4); kind {
	case 0:
		filter = tcpFilter(name, to)
	case 1:
		filter = httpFilter(name, obj{"cluster": to}, logs)
	case 2:
		filter = httpFilter(name, obj{"weighted_clusters": obj{"clusters": []obj{{"name": to, "weight": 1}}}}, logs)
	default:
		filter = httpFilter(name, obj{"cluster_header": "x-to"}, logs)
	}
	w.say("listener %s %s → %s by %s", name, direction, to, filter["name"])
	w.listeners = append(w.listeners, listener(name, port, direction, filter))
	w.ports = append(w.ports, port)
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := &world{random: rand.New(rand.NewPCG(seed, 1)), app: startApp(t), dir: t.TempDir(), what: fmt.Sprintf("seed %d:", seed)}
	w.addCluster(t)
	return w
}

// publish hands the configuration to Envoy, by xDS from files.
func (w *world) publish(t *testing.T) {
	t.Helper()
	put(t, w.dir, "cds", "config.cluster.v3.Cluster", w.clusters...)
	put(t, w.dir, "lds", "config.listener.v3.Listener", w.listeners...)
}

// TestReadingsOfAnyConfiguration generates configurations and changes them while requests are under way: with one, the reading is 1 at
// least or unknown, and an Envoy that only reports for itself reads 0 within a second or so. DRAIN_AGENT_PROPERTY_SEEDS tries more of them.
func TestReadingsOfAnyConfiguration(t *testing.T) {
	t.Parallel()
	seeds := 4
	if more, err := strconv.Atoi(os.Getenv("DRAIN_AGENT_PROPERTY_SEEDS")); err == nil {
		seeds = more
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { readAny(t, uint64(seed)) })
	}
}

func readAny(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	telemetry, _ := rpcServer(t)
	logs := obj{"access_log": []obj{extension("als", "extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", obj{
		"common_config": obj{"log_name": "x", "transport_api_version": "V3", "grpc_service": obj{"envoy_grpc": obj{"cluster_name": "telemetry"}}},
	})}}
	directed, more := w.chance(50), obj{}
	if w.chance(60) {
		more = hidden()
		w.say("hidden")
	}
	if w.chance(50) {
		logs = nil
	}
	for range 1 + w.random.IntN(2) {
		w.addListener(t, directed, logs)
	}
	w.publish(t)
	more["dynamic_resources"] = obj{"lds_config": from(w.dir, "lds"), "cds_config": from(w.dir, "cds")}
	_, c := startWith(t, nil, []obj{cluster("telemetry", telemetry, overHTTP2())}, maps.Clone(more))
	idle := func(what string) {
		t.Helper()
		until(t, c, fmt.Sprintf("%s: %s", w.what, what), inFlight(0))
	}
	idle("nothing")
	for step := range 3 {
		port, to := w.ports[w.random.IntN(len(w.ports))], w.targets[w.random.IntN(len(w.targets))]
		if w.chance(60) { // the newest cluster, a moment after it came
			w.addCluster(t)
			w.addListener(t, directed, logs)
			w.publish(t)
			port, to = w.ports[len(w.ports)-1], w.targets[len(w.targets)-1]
		}
		conn := w.app.reach(t, fmt.Sprintf("127.0.0.1:%d", port), "GET /slow HTTP/1.1\r\nHost: x\r\nx-to: "+to+"\r\n\r\n")
		asked := time.Now()
		for until := time.Now().Add(300 * time.Millisecond); time.Now().Before(until); {
			at := time.Now()
			if s := c.Sample(t.Context()); s.InFlight.Known && s.InFlight.N == 0 && at.Add(-s.Age).After(asked) { // an older zero says how old it is
				t.Fatalf("step %d: a request is under way over port %d to %s, and the reading is %+v\n%s", step, port, to, s, w.what)
			}
		}
		until(t, c, w.what+": the request", func(s envoy.Sample) bool { return s.InFlight.N >= 1 })
		w.app.release <- struct{}{}
		conn.Close()
		idle("nothing any more")
	}
}
