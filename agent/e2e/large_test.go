package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/drain-agent/drain-agent/scripts/podsim/pod"
)

// An Envoy with very many clusters, http statistics hidden as Istio hides them: its answers are expensive, and no stop meets its
// deadline because of them: a sidecar, whose pod only some of them concern, and a gateway, where every one counts.
// LARGE_CLUSTERS=5000 LARGE_MB=100 is the long form: so many clusters, so much configuration in all. LARGE_MS is how long the request takes
// that the stop waits for: the first answer of each kind costs the same in a short stop and in a long one.
func TestLargeConfiguration(t *testing.T) {
	t.Parallel()
	for name, egress := range map[string]bool{"sidecar": true, "gateway": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopLarge(t, egress)
		})
	}
}

func stopLarge(t *testing.T, egress bool) {
	clusters, size := fromEnvironment(t, "LARGE_CLUSTERS", 500), fromEnvironment(t, "LARGE_MB", 2)<<20
	request := fromEnvironment(t, "LARGE_MS", 4000)
	s := setup{grace: int64(request/1000) + 26}
	s.envoy.Outbound = egress
	s.envoy.HideStats = true
	s.bootstrap = func(text string) map[string]string { return enlarge(t, text, clusters, size/clusters) }
	s.manifest = func(p *corev1.Pod) {
		for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				if c := &list[i]; c.Name == "proxy" { // the file is JSON, which Envoy reads far sooner
					c.Args[1] = "/etc/envoy/envoy.json"
				}
			}
		}
	}
	u := start(t, s)
	for range 3 { // and what came before is over
		u.mustServe("before the stop", u.fresh(t.Context(), "/work?ms=1"))
	}
	long := u.background(fmt.Sprintf("/work?ms=%d", request))
	u.busy(1)
	before, began := u.mainThread("proxy"), time.Now()
	u.Delete(nil)
	u.mustServe("under way", <-long)
	spent, took := before, time.Duration(0)
	u.until("the app's hook is answered", func() bool {
		spent, took = u.mainThread("proxy"), time.Since(began)
		return u.happened("app", pod.HookAnswered) > 0
	})
	u.wait()
	v := u.verdict("clean")
	u.wantCut(nil)
	t.Logf("%d clusters, %d MB: the app was held for %v, the stop took %d ms; Envoy's main thread was busy for %v of them, %.1f %%",
		clusters, size>>20, took.Round(time.Millisecond), v.TotalMS, spent-before, 100*(spent-before).Seconds()/took.Seconds())
}

func fromEnvironment(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a whole number above 0", name, text)
	}
	return n
}

// enlarge adds clusters that carry no traffic, each with so many bytes of metadata, as a control plane does. It returns the files.
func enlarge(t *testing.T, bootstrap string, clusters, padding int) map[string]string {
	t.Helper()
	var config map[string]any
	if err := yaml.Unmarshal([]byte(bootstrap), &config); err != nil {
		t.Fatal(err)
	}
	config["dynamic_resources"] = map[string]any{"cds_config": map[string]any{
		"resource_api_version": "V3", "path_config_source": map[string]any{"path": "/etc/envoy/clusters.json"},
	}}
	var all []any
	pad := strings.Repeat("x", padding)
	for i := range clusters {
		name := fmt.Sprintf("outbound|80||service-%d.namespace.svc.cluster.local", i)
		at := map[string]any{"socket_address": map[string]any{"address": fmt.Sprintf("10.%d.%d.1", i>>8, i&255), "port_value": 80}}
		all = append(all, map[string]any{
			"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
			"name":  name, "type": "STATIC", "connect_timeout": "1s", "metadata": map[string]any{"filter_metadata": map[string]any{"pad": map[string]any{"pad": pad}}},
			"load_assignment": map[string]any{"cluster_name": name, "endpoints": []any{map[string]any{"lb_endpoints": []any{map[string]any{"endpoint": map[string]any{"address": at}}}}}},
		})
	}
	files := map[string]string{}
	for name, content := range map[string]any{"envoy.json": config, "clusters.json": map[string]any{"resources": all}} {
		text, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	return files
}

// mainThread is how long the first thread of a container's process has been on a CPU.
func (u *under) mainThread(container string) time.Duration {
	u.t.Helper()
	pid := u.Pid(container)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", pid, pid))
	if err != nil {
		u.t.Fatal(err)
	}
	nanoseconds, _, _ := strings.Cut(string(text), " ")
	n, err := strconv.ParseInt(nanoseconds, 10, 64)
	if err != nil {
		u.t.Fatal(err)
	}
	return time.Duration(n)
}
