package envoy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
	"github.com/drain-agent/drain-agent/agent/internal/envoy"
	"github.com/drain-agent/drain-agent/scripts/envoy/envoytest"
)

// controlled is an Envoy whose configuration comes from files that a test may replace.
type controlled struct {
	*envoytest.Envoy
	dir     string
	values  *strings.Replacer
	inbound int
}

func startControlled(t *testing.T, version string, app *slowApp, direction, target string) *controlled {
	t.Helper()
	c := &controlled{dir: t.TempDir(), inbound: freePort(t)}
	host := "::1"
	if strings.Contains(direction, "OUTBOUND") {
		host = "::" // what only loopback can reach is the pod's own egress
	}
	c.values = strings.NewReplacer(
		"HOST", host,
		"DIR/", c.dir+"/", "path: DIR}", "path: "+c.dir+"}", "ADMIN", fmt.Sprint(freePort(t)), "METRICS", fmt.Sprint(freePort(t)), "READY", fmt.Sprint(freePort(t)),
		"INBOUND", fmt.Sprint(c.inbound), "APP", fmt.Sprint(app.port), "DIRECTION", direction, "TARGET", target,
	)
	c.write(t, "lds", "resources: []")
	c.put(t, "cds")
	c.put(t, "rds")
	c.Envoy = envoytest.Start(t, envoytest.Options{Version: version, Bootstrap: c.values.Replace(read(t, "xds-bootstrap.yaml"))})
	return c
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (c *controlled) put(t *testing.T, name string) {
	t.Helper()
	c.write(t, name, c.values.Replace(read(t, "xds-"+name+".yaml")))
}

// write replaces a file as Envoy expects it: by a rename.
func (c *controlled) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(c.dir, name+".yaml")
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestListenersThatComeLater starts before the control plane has sent a listener, as an agent that is the first init container does.
func TestListenersThatComeLater(t *testing.T) {
	t.Parallel()
	onEveryRelease(t, func(t *testing.T, version string) {
		for direction, target := range map[string]string{
			"traffic_direction: INBOUND":  `cluster: "inbound|8080||"`,
			"traffic_direction: OUTBOUND": `weighted_clusters: {clusters: [{name: "inbound|8080||", weight: 1}, {name: canary, weight: 0}]}`, // Istio's gateways say so
			"":                            `cluster_header: x-to`,                                                                            // chosen at run time
		} {
			app := startApp(t)
			e := startControlled(t, version, app, direction, target)
			c := connect(t, e.AdminURL)
			if d := describe(t, c); len(d.InboundPorts) != 0 || !slices.Equal(d.MetadataKeys, []string{"ISTIO_VERSION", "NAME"}) {
				t.Errorf("before any listener: %+v", d)
			}
			if s := c.Sample(t.Context()); s.InFlight != drain.Known(0) || s.Changed {
				t.Errorf("before any listener: %+v", s)
			}
			e.put(t, "lds")
			until(t, c, "new listeners", func(s envoy.Sample) bool { return s.Changed })
			d := describe(t, c)
			if !slices.Equal(d.InboundPorts, []uint16{uint16(e.inbound)}) || !slices.Equal(d.UpstreamPorts, []uint16{uint16(app.port)}) ||
				d.Directed != strings.Contains(direction, "INBOUND") || d.Guessed != strings.Contains(target, "header") {
				t.Errorf("%q: want inbound %d, upstream %d: %+v", direction, e.inbound, app.port, d)
			}
			conn := dial(t, fmt.Sprintf("[::1]:%d", e.inbound))
			fmt.Fprintf(conn, "GET /slow HTTP/1.1\r\nHost: x\r\nx-to: inbound|8080||\r\n\r\n")
			app.wait(t)
			until(t, c, "the request and its connection", func(s envoy.Sample) bool {
				return s.InFlight == drain.Known(1) && s.Rung == "clusters" && s.Conns == drain.Known(1) && s.Requests == drain.Known(1)
			})
			close(app.release)
			until(t, c, "no request", func(s envoy.Sample) bool { return s.InFlight == drain.Known(0) && s.Rung == "clusters+http" })
		}
	})
}

// TestClusterThatGoes removes a cluster under a request: its hosts are not listed any more, and the request is still under way.
func TestClusterThatGoes(t *testing.T) {
	t.Parallel()
	app := startApp(t)
	e := startControlled(t, "", app, "traffic_direction: INBOUND", `weighted_clusters: {clusters: [{name: "inbound|8080||", weight: 1}, {name: canary, weight: 0}]}`)
	c := connect(t, e.AdminURL)
	e.put(t, "lds")
	until(t, c, "the listener", func(s envoy.Sample) bool { return s.Rung == "clusters+http" && len(s.Demoted) == 0 && s.Conns.Known })
	app.send(t, fmt.Sprintf("[::1]:%d", e.inbound))
	until(t, c, "the request", inFlight(1))
	e.write(t, "cds", "resources: []")
	for removed := false; !removed; {
		_, clusters, err := e.Admin(t.Context(), "GET", "/clusters")
		if err != nil {
			t.Fatal(err)
		}
		removed = !strings.Contains(clusters, "inbound|8080")
		if s := c.Sample(t.Context()); s.InFlight.Known && s.InFlight.N == 0 {
			t.Fatalf("removed %v: %+v", removed, s)
		}
	}
	until(t, c, "the request without its cluster", inFlight(1))
	close(app.release)
	until(t, c, "nothing", inFlight(0))
}
