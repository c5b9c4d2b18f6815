package drain

import (
	"testing"

	"github.com/drain-agent/drain-agent/scripts/promises"
)

// appDrains is an app with a drain URL.
func appDrains(p *Policy) { p.AppDrain = true }

// A death needs evidence.
func TestDeaths(t *testing.T) {
	obey(t, map[string]rule{
		"a listener that closes on the drain URL is no death": {
			policy: appDrains,
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, func() bool { return w.done&TellApp != 0 })
				w.run(w.now+100*ms, nil)
				w.live[app] = Gone
				w.run(60*sec, nil)
			},
			want: []string{"do healthcheck_fail+app_drain", "11.7", "answer app", "verdict clean"},
		},
		"what it still counts behind its closed listener holds": {
			policy: appDrains,
			play: func(w *world) {
				w.app = Known(2)
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.live[app] = Gone
				w.run(15*sec, nil)
				w.app = Known(0)
				w.run(60*sec, nil)
			},
			want: []string{"15.025s  draining -> settling", "answer app", "verdict clean"},
		},
		"with its page closed too it no longer counts": {
			policy: appDrains,
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.live[app], w.app = Gone, Count{}
				w.run(60*sec, nil)
			},
			want: []string{"draining -> settling", "answer app", "verdict clean"},
		},
		"with its page late it is unknown, not closed": {
			policy: appDrains,
			play: func(w *world) {
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.live[app], w.app, w.appHangs = Gone, Count{}, true
				w.run(60*sec, nil)
			},
			want: []string{"draining -> stopping: grace period budget is over", "verdict deadline", "!settling"},
		},
		"while it answers behind its closed listener, the next stage is not let go": {
			policy: appDrains,
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.live[app] = Gone
				w.run(60*sec, nil)
			},
			want: []string{"11.700s  answer app", "16.700s  answer proxy"},
		},
		"nor while it hangs there: who ignores SIGTERM and does not answer is unknown, not gone": {
			policy: appDrains,
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(11*sec, nil)
				w.live[app] = Gone
				w.run(11750*ms, nil)
				w.app, w.appHangs = Count{}, true
				w.run(60*sec, nil)
			},
			want: []string{"11.700s  answer app", "16.700s  answer proxy", "verdict deadline"},
		},
		"what outlives an app, a file or the sockets of its port, does not keep one alive that closed its port on SIGTERM": {
			policy: appDrains,
			play: func(w *world) {
				w.pageStays = true
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
			},
			want: []string{"11.700s  answer app", "12.1", "verdict clean", "!16.7"},
		},
		"nor where it closed its port on the drain URL just before its hook was answered": {
			policy: appDrains,
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.onPoll = func(w *world) {
					if w.done&TellApp != 0 {
						w.live[app] = Gone
					}
				}
				w.run(10*sec, nil)
				w.stop()
				for range 6 {
					w.run(w.now+200*ms, nil)
					w.arrive()
				}
				w.run(60*sec, nil)
			},
			want: []string{"11.725s  do healthcheck_fail+app_drain", "11.925s  answer app", "16.925s  answer proxy", "verdict deadline"},
		},
		"a hook called again in a stop that a container's end has proved is answered; nobody is named dead": {
			play: func(w *world) {
				w.endsAfter[proxy] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, func() bool { return w.answered[proxy] != 0 })
				w.run(w.now+50*ms, nil)
				w.hook(app)
				w.run(60*sec, nil)
			},
			want: []string{"answer app", "answer proxy", "hook app", "answer app", "verdict clean", "!aborted", "!died"},
		},
		"a listener that it closed because we told it so proves no stop": {
			policy: appDrains,
			play: func(w *world) {
				w.endsAfter[app], w.endsAfter[proxy], w.endsAfter[agent] = -1, -1, -1
				w.run(10*sec, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(11*sec, nil)
				w.live[app] = Gone
				w.run(90*sec, nil)
			},
			want: []string{"answer proxy", "verdict aborted", "!verdict clean"},
		},
		"an app that outlives its share keeps a sidecar waiting until it is killed: that is no end of the stop": {
			play: func(w *world) {
				w.endsAfter[app], w.endsAfter[proxy], w.endsAfter[agent] = -1, -1, -1
				w.run(10*sec, nil)
				w.stop()
				w.run(40*sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"answer agent", "SIGTERM", "verdict deadline", "!aborted"},
		},
		"an app that was told, and is gone with what it had, died": {
			policy: appDrains,
			play: func(w *world) {
				w.app = Known(2)
				w.run(10*sec, nil)
				w.stop()
				w.run(12*sec, nil)
				w.live[app], w.app = Gone, Count{}
				w.run(60*sec, nil)
			},
			want: []string{"draining -> stopping: app died", "verdict app_died"},
		},
		"an app that ends with the proxy did not die": {
			play: func(w *world) {
				w.app = Known(2)
				w.run(10*sec, nil)
				w.stop()
				w.run(12*sec, nil)
				w.live[app], w.live[proxy], w.app, w.proxy = Gone, Gone, Count{}, Count{}
				w.run(60*sec, nil)
			},
			want: []string{"draining -> stopping: proxy died", "verdict proxy_died"},
		},
		"a proxy that is killed before anybody looked in this stop, after its hook was called": {
			play: func(w *world) {
				w.app = Known(1)
				w.run(10*sec, nil)
				w.stop()
				w.live[proxy], w.proxy = Gone, Count{}
				w.run(60*sec, nil)
			},
			want: []string{"-> stopping: proxy died", "verdict proxy_died"},
		},
		"an app that is killed before anybody looked in this stop, after its hook was called": {
			play: func(w *world) {
				w.app, w.proxy = Known(1), Known(1)
				w.run(10*sec, nil)
				w.stop()
				w.live[app], w.app = Gone, Count{}
				w.run(60*sec, nil)
			},
			want: []string{"-> stopping: app died", "verdict app_died"},
		},
		"an app that ends before a proxy that nobody can see any more is named": {
			play: func(w *world) {
				w.app = Known(2)
				w.run(10*sec, nil)
				w.stop()
				w.run(12*sec, nil)
				w.live[app], w.live[proxy], w.app, w.proxy = Gone, Unseen, Count{}, Count{}
				w.run(60*sec, nil)
			},
			want: []string{"12.525s  draining -> stopping: app died", "verdict app_died"},
		},
		"an app alive at the end of its share is no clean end": {
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, nil)
				if why := w.s.Alive; why.Code != StageCapped || why.Who != app {
					w.note("nobody named: %+v", why)
				}
			},
			want: []string{"11.700s  answer app", "16.700s  answer proxy", "verdict deadline", "exit 2", "!nobody named"},
		},
		"an app that nobody can see gets no blame": {
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.onPoll = func(w *world) { w.live[app] = Unseen }
				w.run(60*sec, nil)
			},
			want: []string{"16.700s  answer proxy", "verdict clean"},
		},
		"a port that closed on the drain URL since the last look was not open when its hook was answered": {
			policy: appDrains,
			play: func(w *world) {
				w.endsAfter[app] = -1
				w.run(10*sec, nil)
				w.stop()
				w.run(60*sec, func() bool { return w.done&TellApp != 0 })
				w.live[app] = Gone
				w.send(Input{Kind: AskedFinish})
				w.run(60*sec, nil)
			},
			want: []string{"10.525s  answer app", "15.525s  answer proxy"},
		},
		"our own SIGTERM and a container that leaves with it are a pod stop": {
			play: func(w *world) {
				w.run(9*sec, nil)
				w.poll()
				w.run(10*sec, nil)
				w.sigterm()
				w.run(10300*ms, nil)
				w.live[app] = Gone
				w.run(60*sec, nil)
			},
			want: []string{"confirming -> announcing: ", "do drain_listeners", "draining -> settling", "verdict clean", "!container_restart", "!healthcheck_fail"},
		},
		"so is one that closes its listener and still serves": {
			play: func(w *world) {
				w.run(9*sec, nil)
				w.poll()
				w.app = Known(1)
				w.run(10*sec, nil)
				w.sigterm()
				w.live[app] = Leaving
				w.run(20*sec, nil)
			},
			want: []string{"confirming -> announcing: ", "!container_restart", "!stopping"},
		},
		"one that was gone long before is none": {
			policy: func(p *Policy) { p.IdleSample = sec },
			play: func(w *world) {
				w.run(5*sec, nil)
				w.live[app] = Gone
				w.run(20*sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"verdict container_restart", "!announcing"},
		},
		"exec hooks that need more than the window find the agent there": {
			policy: func(p *Policy) { p.Hooks = 0b011 },
			play: func(w *world) {
				w.run(10*sec, nil)
				w.sigterm()
				w.run(11300*ms, nil)
				w.hook(app)
				w.hook(proxy)
				w.run(60*sec, nil)
			},
			want: []string{"11.300s  hook app", "confirming -> announcing", "answer app", "answer proxy", "verdict clean"},
		},
		"an agent that was started into a stop that is told already is silent": {
			play: func(w *world) {
				w.s, w.watch = State{}, promises.Watch{}
				w.live = [MaxContainers]Liveness{}
				w.send(Input{Kind: Restored, Journal: Journal{Ended: true}})
				w.run(sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"confirming -> finished: the pod's last verdict was written", "exit 0", "!verdict container"},
		},
		"where something has come up since it tells its own stop": {
			play: func(w *world) {
				w.send(Input{Kind: Restored, Journal: Journal{Ended: true}})
				w.poll()
				w.run(sec, nil)
				w.sigterm()
				w.run(60*sec, nil)
			},
			want: []string{"verdict container_restart"},
		},
		"a job ends when all of its containers have": {
			policy: func(p *Policy) {
				p.Containers = append(p.Containers, Container{Name: "worker"})
				p.ExitWith = Set(0).With(app).With(3)
			},
			play: func(w *world) {
				jobEnds(w)
				w.note("half")
				w.live[3] = Gone
				w.run(90*sec, nil)
			},
			want: []string{"half", "serving -> finished: app and worker ended", "do quit_proxy", "verdict clean"},
		},
	})
}

// Who wants maintenance is a set; each member is undone by its owner only.
func TestIntents(t *testing.T) {
	drain := func(w *world, by Intent) { w.send(Input{Kind: AskedDrain, By: by}) }
	undrain := func(w *world, by Intent) { w.send(Input{Kind: AskedUndrain, By: by}) }
	earlier := func(w *world, by Intent) {
		w.send(Input{Kind: Restored, Journal: Journal{Wanted: Intents(0).With(by), HealthFailed: true}})
	}
	obey(t, map[string]rule{
		"the operator does not undo the drain file": {
			play: func(w *world) {
				drain(w, Operator)
				drain(w, DrainFile)
				w.run(5*sec, nil)
				undrain(w, Operator)
				w.run(6*sec, nil)
				w.note("still")
				undrain(w, DrainFile)
				w.run(7*sec, nil)
			},
			want: []string{"serving -> maintenance", "still", "maintenance -> serving", "do healthcheck_ok", "verdict maintenance"},
		},
		"a file that is absent undoes nobody else's": {
			play: func(w *world) { drain(w, Operator); undrain(w, DrainFile); w.run(7*sec, nil) },
			want: []string{"serving -> maintenance", "!maintenance -> serving"},
		},
		"a file removed while the agent was down": {
			play: func(w *world) { earlier(w, DrainFile); undrain(w, DrainFile); w.run(7*sec, nil) },
			want: []string{"maintenance -> serving", "do healthcheck_ok", "verdict maintenance"},
		},
		"a journal that does not say who: the operator undoes it": {
			play: func(w *world) {
				earlier(w, EarlierAgent)
				undrain(w, DrainFile)
				w.run(2*sec, nil)
				w.note("still")
				undrain(w, Operator)
				w.run(7*sec, nil)
			},
			want: []string{"serving -> maintenance", "still", "maintenance -> serving"},
		},
		"or the file, once it was there": {
			play: func(w *world) {
				earlier(w, EarlierAgent)
				drain(w, DrainFile)
				undrain(w, DrainFile)
				w.run(7*sec, nil)
			},
			want: []string{"maintenance -> serving"},
		},
		"a wish that comes in a container's stop is fulfilled after it": {
			play: func(w *world) {
				w.run(10*sec, nil)
				w.hook(app)
				w.run(10500*ms, nil)
				drain(w, DrainFile)
				w.run(20*sec, nil)
			},
			want: []string{"holding -> maintenance", "do healthcheck_fail"},
		},
		"observe mode does nothing to anybody, whoever asks": {
			policy: func(p *Policy) {
				p.Observe, p.AppDrain, p.QuitProxy, p.ExitWith = true, true, true, Set(0).With(app)
			},
			play: func(w *world) {
				drain(w, Operator)
				w.run(5*sec, nil)
				undrain(w, Operator)
				jobEnds(w)
			},
			want: []string{"serving -> maintenance", "maintenance -> serving", "serving -> finished", "exit 0", "!do "},
		},
	})
}
