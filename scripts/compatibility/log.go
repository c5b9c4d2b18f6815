package main

import (
	"cmp"
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/drain-agent/drain-agent/scripts/envoy/envoybin"
)

// What the scripts of the node and of the mesh say, and go test.
var (
	kubernetesBuilt = regexp.MustCompile(`^cluster: (?:built )?Kubernetes (v[0-9.]+)`)
	envoyOfTheNode  = regexp.MustCompile(`^images: the Envoy of the manifests is (\S+)`)
	nodeReady       = regexp.MustCompile(`^cluster: node \S+ is Ready`)
	nodeDown        = regexp.MustCompile(`^cluster: down`)
	istioBuilt      = regexp.MustCompile(`^mesh: (?:compiling )?Istio (\S+) (?:is built|into)`)
	istioReady      = regexp.MustCompile(`^mesh: Istio is ready`)
	istioDown       = regexp.MustCompile(`^mesh: down`)
	verdictLine     = regexp.MustCompile(`^\s*--- (PASS|FAIL): (\S+) \(([0-9.]+)s\)`)
	packageEnded    = regexp.MustCompile(`^(?:ok|FAIL)\s+\S*drain-agent/(agent/internal/envoy|agent/e2e|scripts/e2e|\S+)\s`)
	controlPlane    = regexp.MustCompile(`^TestControlPlanes/([A-Z]\S+_v[0-9.]+),_Envoy_([0-9.]+)/`)
	envoyNamed      = regexp.MustCompile(`^[^/]+/(?:\S+_on_)?(1\.[0-9]{2}\.[0-9]+)(?:_[^/]*)?$`)
)

// logReader knows what is up at a line of the log.
type logReader struct {
	kubernetes, istio, envoy string // of the node, as built
	nodeIsReady, meshIsReady bool
	verdicts                 map[string]string // of the package that is under way, by the names of its tests
	counts                   map[releases]*result
	commit                   string
}

// readLog counts the tests of each combination of releases. A test that only groups others does not count.
func readLog(log io.Reader, commit string) (found []result, err error) {
	r := logReader{verdicts: map[string]string{}, counts: map[releases]*result{}, commit: commit}
	if err := lines(log, r.line); err != nil {
		return nil, err
	}
	for _, row := range r.counts {
		found = append(found, *row)
	}
	if len(found) == 0 {
		return nil, errors.New("the log has no tests with a real Envoy; it wants the output of go test -v, or of scripts/e2e/run")
	}
	return found, nil
}

func (r *logReader) line(text string) {
	switch {
	case nodeReady.MatchString(text):
		r.nodeIsReady = true
	case nodeDown.MatchString(text):
		r.nodeIsReady, r.meshIsReady = false, false
	case istioReady.MatchString(text):
		r.meshIsReady = true
	case istioDown.MatchString(text):
		r.meshIsReady = false
	}
	if is := kubernetesBuilt.FindStringSubmatch(text); is != nil {
		r.kubernetes = is[1]
	}
	if is := istioBuilt.FindStringSubmatch(text); is != nil {
		r.istio = "Istio " + is[1]
	}
	if is := envoyOfTheNode.FindStringSubmatch(text); is != nil {
		r.envoy = is[1]
	}
	if is := verdictLine.FindStringSubmatch(text); is != nil && (is[1] == "FAIL" || is[3] != "0.00") { // who takes no time asks nobody
		r.verdicts[is[2]] = is[1]
	}
	if is := packageEnded.FindStringSubmatch(text); is != nil {
		r.count(is[1])
		r.verdicts = map[string]string{}
	}
}

// count adds the tests of a package. On this machine tests name the Envoy that they ran on, and others may have run on none.
func (r *logReader) count(pkg string) {
	groups := map[string]bool{}
	for name := range r.verdicts {
		for i, c := range name {
			if c == '/' {
				groups[name[:i]] = true
			}
		}
	}
	for name, verdict := range r.verdicts {
		on := releases{kubernetes: "-", owner: "-"}
		if is := envoyNamed.FindStringSubmatch(name); is != nil {
			on.envoy = is[1]
		}
		switch pkg {
		case "agent/internal/envoy", "agent/e2e":
		case "scripts/e2e":
			on.envoy = cmp.Or(on.envoy, r.envoy, envoybin.DefaultVersion)
			if on.kubernetes = r.kubernetes; !r.nodeIsReady {
				on.kubernetes = ""
			}
			if is := controlPlane.FindStringSubmatch(name); is != nil {
				on.owner, on.envoy = strings.ReplaceAll(is[1], "_", " "), is[2]
			}
			if r.meshIsReady && strings.HasPrefix(name, "TestIstio") {
				on.owner, on.envoy = r.istio, envoybin.DefaultVersion // which scripts/mesh gives its proxies
			}
		default:
			on.envoy = ""
		}
		if groups[name] || on.envoy == "" || on.kubernetes == "" || on.owner == "" {
			continue
		}
		if r.counts[on] == nil {
			r.counts[on] = &result{releases: on, commit: r.commit}
		}
		if verdict == "PASS" {
			r.counts[on].passed++
		} else {
			r.counts[on].failed++
		}
	}
}
