package inject_test

import (
	"testing"

	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// level returns the strictest level of Pod Security that a pod fulfils.
func level(t testing.TB, w *manifest.Workload) api.Level {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []api.Level{api.LevelRestricted, api.LevelBaseline} {
		results := evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &w.Pod.ObjectMeta, &w.Pod.Spec)
		if policy.AggregateCheckResults(results).Allowed {
			return level
		}
	}
	return api.LevelPrivileged
}

// A pod fulfils after inject the level that it fulfilled before.
func TestPodSecurityStaysAsItWas(t *testing.T) {
	restricted := 0
	for name, text := range shapes(t) {
		for _, shape := range []string{"auto", "classic"} {
			o := options(name)
			o.Shape, o.KeepGoing = shape, true
			out, _, err := inject.File(name, text, o)
			if err != nil && shape == "auto" {
				t.Fatal(err)
			}
			before, after := pods(t, name, text), pods(t, name, out)
			for i, w := range before {
				if was, is := level(t, w), level(t, after[i]); was != is {
					t.Errorf("%s, %s: %s %s was %s and is %s", name, shape, w.Kind, w.Name, was, is)
				} else if was == api.LevelRestricted {
					restricted++
				}
			}
		}
	}
	if restricted < 4 { // 48 and 65
		t.Errorf("%d restricted pods: too few to say anything", restricted)
	}
}
