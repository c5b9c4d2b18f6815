package conductor

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// Where what lies between kubelet and the agent dies, kubelet stops the container at once. The verdict says so, and what it cost.
func TestHookThatIsCut(t *testing.T) {
	for name, tt := range map[string]struct {
		then    func(p *pod) // when kubelet no longer waits for the app's hook
		outcome string
		want    map[string]int64
		cut     bool
	}{
		"the app is killed with what it had": {
			then: func(p *pod) {
				p.appLive, p.inApp, p.proxyLook.InFlight = drain.Gone, drain.Count{}, drain.Known(0)
			},
			outcome: "app_died", want: map[string]int64{"app": 3, "proxy": 2}, cut: true,
		},
		"the app finishes what it had": {
			then:    func(p *pod) { p.inApp, p.proxyLook.InFlight = drain.Known(0), drain.Known(0) },
			outcome: "clean", cut: true,
		},
		"its caller came back": {
			then: func(p *pod) {
				p.inApp, p.proxyLook.InFlight = drain.Known(0), drain.Known(0)
				p.hook("app")
			},
			outcome: "clean",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *pod) {
				p.inApp, p.proxyLook.InFlight = drain.Known(3), drain.Known(2)
				p.start()
				p.pass(5 * time.Second)
				ctx, sever := context.WithCancel(t.Context())
				p.hookBy(ctx, "app", false)
				p.hook("proxy")
				agent := p.hook("agent")
				p.pass(5 * time.Second)
				sever()
				p.set(func() { tt.then(p) })
				p.until("the app's hook is released", func() bool { return p.said("answer app") })
				p.set(func() { p.appLive, p.inApp = drain.Gone, drain.Count{} })
				p.until("the proxy is let go", func() bool { return p.said("answer proxy") })
				p.set(func() { p.proxyLook = ProxyLook{Live: drain.Gone, Failure: refused} })
				<-agent
				p.c.Terminate()
				p.code()
				v := p.verdict()
				if v.Outcome != tt.outcome || !maps.Equal(v.Cut, tt.want) {
					t.Errorf("%s, cut %v; want %s, %v", v.Outcome, v.Cut, tt.outcome, tt.want)
				}
				if cut := strings.HasPrefix(v.Reason, "hook cut: nobody waited any more for the answer of app; "); cut != tt.cut {
					t.Errorf("reason %q", v.Reason)
				}
			})
		})
	}
}
