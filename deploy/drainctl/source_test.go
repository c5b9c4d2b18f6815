package main

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// One source: what stands in deploy/components and in the documents is what inject writes. The tests write it with -update.

const countApp = "--app-source=prometheus:http://127.0.0.1:8090/metrics#active_requests"

// injectArgs are what gives each component, beside its pod in testdata/components.
func injectArgs(component string) []string {
	args := []string{"inject", "-q", "-f", "testdata/components/" + component + ".yaml", "--token=-", "--grace-period=60s", "--envoy-admin=http://127.0.0.1:15000"}
	switch component {
	case "classic":
		args = append(args, "--shape=classic", countApp, "--agent-arg=--watch=app=port:8090")
	case "native":
		args = append(args, countApp, "--agent-arg=--watch=app=port:8090")
	}
	return args
}

func TestComponents(t *testing.T) {
	for _, name := range []string{"native", "classic", "job", "gateway"} {
		code, out, said := drainctl(t, "", append(injectArgs(name), "--patch")...)
		if code != exitOK {
			t.Fatalf("%s: %s", name, said)
		}
		compare(t, filepath.Join("../components", name, "agent.yaml"),
			"# Written by go test ./deploy/drainctl -run TestComponents -update. For your own workload: drainctl inject --patch -f FILE\n"+out)
	}
}

// A patch and an insertion are the same change.
func TestPatchSaysWhatIsInserted(t *testing.T) {
	for _, name := range []string{"native", "classic", "job", "gateway"} {
		_, patch, _ := drainctl(t, "", append(injectArgs(name), "--patch")...)
		_, whole, _ := drainctl(t, "", injectArgs(name)...)
		for line := range strings.Lines(patch) {
			line, _, _ = strings.Cut(line, " #") // comments do not stand in braces
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- "))
			if !strings.HasPrefix(line, "$patch:") && !strings.Contains(strings.ReplaceAll(whole, "- ", ""), line) && !strings.HasPrefix(line, "name: ") {
				t.Errorf("%s: the patch says %q, the insertion does not", name, line)
			}
		}
	}
}

func TestHowToShowsWhatInjectWrites(t *testing.T) {
	const begin, end = "<!-- inject -->\n```", "```\n<!-- /inject -->"
	_, diff, _ := drainctl(t, readText(t, "testdata/web.yaml"), "inject", "-q", "-f", "-", "--diff", "--token=…")
	diff = strings.NewReplacer("a/-", "a/web.yaml", "b/-", "b/web.yaml").Replace(diff)
	between(t, filepath.Join(docs, "how-to/add-to-your-pods.md"), begin, end, "diff\n"+diff)

	_, patch, _ := drainctl(t, "", "inject", "-q", "--patch", "-f", "../../scripts/demo/demopod/plain.yaml", "--token=-", "--envoy-admin=http://127.0.0.1:15000", countApp)
	between(t, "../../README.md", begin, end, "yaml\n"+brief(t, patch, ""))

	_, patch, _ = drainctl(t, readText(t, "testdata/leave.yaml"), "inject", "-q", "--patch", "-f", "-", "--token=-")
	between(t, filepath.Join(docs, "how-to/operate.md"), begin, end, "yaml\n"+brief(t, patch, "drain-agent"))
}

// brief leaves out of a patch what does not differ from pod to pod, and the containers of that name.
func brief(t *testing.T, patch, without string) string {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(patch), &doc); err != nil {
		t.Fatal(err)
	}
	spec := manifest.Find(doc.Content[0], "spec")
	for _, list := range []string{"initContainers", "containers"} {
		containers := manifest.Find(spec, list)
		containers.Content = slices.DeleteFunc(containers.Content, func(c *yaml.Node) bool {
			return without != "" && manifest.Find(c, "name").Value == without
		})
		for _, c := range containers.Content {
			prune(c, "imagePullPolicy", "ports", "startupProbe", "readinessProbe", "livenessProbe", "resources", "securityContext", "volumeMounts")
			prune(manifest.Find(c, "lifecycle", "preStop"), "$patch")
			plain(c)
		}
	}
	prune(spec, "volumes", "terminationGracePeriodSeconds")
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(spec); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func prune(m *yaml.Node, keys ...string) {
	for i := 0; m != nil && i+1 < len(m.Content); {
		if slices.Contains(keys, m.Content[i].Value) {
			m.Content = slices.Delete(m.Content, i, i+2)
			continue
		}
		i += 2
	}
}

// plain takes comments away and writes hooks on one line.
func plain(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	for i, one := range n.Content {
		if i > 0 && n.Content[i-1].Value == "lifecycle" {
			one.Style = yaml.FlowStyle
		}
		plain(one)
	}
}

// Flags that a how-to tells to write are flags that inject writes for such a pod.
func TestFlagsInTheHowTos(t *testing.T) {
	written := map[string]bool{}
	for _, args := range [][]string{injectArgs("native"), injectArgs("gateway"), {"inject", "-q", "-f", "../internal/inject/testdata/shapes/14-job-regular-proxy.yaml"}} {
		_, out, _ := drainctl(t, "", args...)
		for line := range strings.Lines(out) {
			written[strings.TrimSpace(line)] = true
		}
	}
	seen := 0
	for _, page := range []string{"jobs", "gateways", "native-sidecars", "regular-containers"} {
		for line := range strings.Lines(readText(t, filepath.Join(docs, "how-to", page+".md"))) {
			if flag, is := strings.CutPrefix(line, "    - --"); is {
				if seen++; !written["- --"+strings.TrimSpace(flag)] {
					t.Errorf("%s.md: nobody writes --%s; %v", page, flag, slices.Sorted(maps.Keys(written)))
				}
			}
		}
	}
	if seen < 5 {
		t.Errorf("%d flags in the how-tos", seen)
	}
}
