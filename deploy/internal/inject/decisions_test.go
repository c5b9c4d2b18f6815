package inject_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/drain-agent/drain-agent/deploy/internal/inject"
)

// What is decided for shapes that have tricked a reader: arguments of the agent, or why the pod is left alone.
func TestDecisions(t *testing.T) {
	for _, one := range []struct{ shape, name, want string }{
		{"71-wrapped-commands", "wrapped", "--hooks=app,proxy,agent --stop-order=app,proxy"},
		{"71-wrapped-commands", "backgrounded", "--hooks=app,proxy,agent"}, // nohup envoy in a script; the app only waits for it
		{"72-deployment-list", "one", "--hooks=app,proxy,agent"},
		{"72-deployment-list", "two", "left alone: no Envoy in it"},
		{"73-hooks-of-many", "hooks", "--stop=a=15s --stop=b=25s --stop=c=5s --stop=d=5s"}, // e and Envoy's have what is left
		{"74-other-meshes", "linked", "left alone: no Envoy in it"},
		{"74-other-meshes", "osm", "--envoy-admin=http://127.0.0.1:15000"},
		{"74-other-meshes", "kuma-old", "--envoy-admin=http://127.0.0.1:9901"},
		{"74-other-meshes", "consul", "--envoy-admin=http://127.0.0.1:19000"},
		{"75-comments-between", "edge-b", "--listen=:9910"},
		{"76-native-sidecars", "natives", "--hooks=app,proxy,agent --envoy-admin=http://127.0.0.1:19009"},
		{"77-settings-annotated", "orders", "--grace-period=90s --listen=:9919 --preset=kube-proxy --app-source=prometheus:http://127.0.0.1:8090/metrics#active_requests --quiet-max=5s"},
		{"78-jobs-in-meshes", "by-kuma", "--hooks=agent --stop-order=proxy"}, // Kuma's control plane ends its proxy
		{"78-jobs-in-meshes", "by-consul", "--watch=fetch=port:9102 --watch=upload=port:9103 --exit-with=fetch,upload --quit-proxy=true"},
		{"78-jobs-in-meshes", "by-app-mesh", "--watch=app=port:9102 --exit-with=app --quit-proxy=true"},
		{"79-shell-options", "search", "--hooks=app,proxy,agent"},
		{"80-anchors-nobody-uses", "docs", "--hooks=app,proxy,agent"},
		{"81-json-without-lines", "first", "--hooks=app,proxy,agent"},
		{"81-json-without-lines", "last", "--hooks=app,proxy,agent"},
		{"70-names-like-numbers", "1234", "--hooks=app,proxy,agent"},
		{"70-names-like-numbers", "99", "--hooks=app,proxy,agent"},
	} {
		_, reports, err := inject.File(one.shape, shapes(t)[one.shape], options(one.shape))
		if err != nil {
			t.Errorf("%s: %v", one.shape, err)
			continue
		}
		i := slices.IndexFunc(reports, func(r inject.Report) bool { return r.Object != nil && r.Object.Name == one.name })
		if i < 0 {
			t.Errorf("%s: nothing is said of %s", one.shape, one.name)
			continue
		}
		got := "left alone: " + reports[i].Left
		if p := reports[i].Plan; p != nil {
			got = strings.Join(p.Args, " ")
		}
		for want := range strings.SplitSeq(one.want, " --") {
			if !strings.Contains(got, want) {
				t.Errorf("%s %s: %s, want %s", one.shape, one.name, got, want)
			}
		}
		if n := strings.Count(string(shapes(t)[one.shape]), "DaemonSet"); n > 0 && len(reports) != n {
			t.Errorf("%s: %d reports: comments are no objects", one.shape, len(reports))
		}
	}
}
