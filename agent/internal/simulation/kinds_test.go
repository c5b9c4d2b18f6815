package simulation

import "slices"

// kinds are sorts of scenarios of which the budgeted form plays some before anything else: each belongs to a promise, and a slow machine
// must not miss one because its turn comes late.
var kinds = map[string]func(sc *scenario) bool{ //nolint:gochecknoglobals // a table
	"exec hooks late":  func(sc *scenario) bool { return sc.Shape == hookless && sc.HooksLate > 1050*ms && !sc.Observe },
	"drain URL closes": func(sc *scenario) bool { return sc.DrainCloses && sc.Before == "" && sc.busy(pooled) },
	"still answers": func(sc *scenario) bool {
		return sc.DrainCloses && sc.Before == "" && sc.AppManner == stubborn && !sc.ProxyFirst && len(sc.Faults) == 0
	},
	"strangers, drain URL": func(sc *scenario) bool { return sc.Before == "strangers" && sc.DrainCloses && !sc.Token && !sc.Observe },
	"page hangs, closed": func(sc *scenario) bool {
		return sc.DrainCloses && sc.Before == "" && !sc.Observe && len(sc.Faults) == 1 && sc.fault("app hangs") && !sc.busy(stream) && !sc.busy(slow)
	},
	"ignores SIGTERM": func(sc *scenario) bool {
		return sc.AppManner == stubborn && !sc.Token && sc.Shape == native && sc.Grace >= 30*sec && len(sc.Clients) == 0
	},
	"grace is shorter": func(sc *scenario) bool { return sc.RealGrace < sc.Grace-8*sec && sc.busy(stream) },
	"long streams":     func(sc *scenario) bool { return sc.Grace <= 15*sec && sc.busy(stream) && sc.RealGrace == sc.Grace },
	"slow readers": func(sc *scenario) bool {
		return sc.busy(slow) && sc.Grace >= 30*sec && !sc.DrainCloses && len(sc.Faults) == 0
	},
	"never used": func(sc *scenario) bool {
		return len(sc.Clients) == 1 && sc.Clients[0].Kind == pooled && sc.Clients[0].Every == 0 && len(sc.Faults) == 0 && sc.Before == "" && sc.QuietMax > sec
	},
	"late balancer": func(sc *scenario) bool {
		return sc.Routed > 4*sec && sc.busy(fresh) && sc.Propagation < 2*sec && sc.QuietMax > 10*sec
	},
	"maintenance": func(sc *scenario) bool { return sc.Before == "maintenance" && !sc.Observe },
	"no token":    func(sc *scenario) bool { return !sc.Token && sc.Shape == native && sc.Before == "" && sc.busy(fresh) },
	"observe":     func(sc *scenario) bool { return sc.Observe && sc.busy(pooled) },
	"called again": func(sc *scenario) bool {
		return sc.fault("called again") && !sc.Token && sc.Shape == native && sc.Faults[0].Takes < 150*ms && len(sc.Faults) == 1 && !sc.AppDrain
	},
	"wish taken back": func(sc *scenario) bool { return sc.Before == "wish" && !sc.Observe },
	"TCP checks": func(sc *scenario) bool {
		return sc.unused() && sc.checked() && !sc.Observe && sc.QuietMax > 4*sec && sc.Propagation < 5*sec && len(sc.Faults) == 0 && sc.Before == ""
	},
	"restart, page slow": func(sc *scenario) bool {
		return sc.Before == "restart" && len(sc.Faults) > 0 && sc.Faults[0].Takes > 1100*ms && !sc.Observe
	},
	"strangers again": func(sc *scenario) bool { return sc.Before == "strangers again" && !sc.Observe && len(sc.Faults) == 0 },
	"job":             func(sc *scenario) bool { return sc.Job },
	"agent killed":    func(sc *scenario) bool { return sc.Before == "agent killed" && !sc.Observe && !sc.DrainCloses },
	"finished, again": func(sc *scenario) bool {
		return sc.fault("called again") && sc.fault("operator finishes") && !sc.Token && sc.Shape != hookless && sc.AppManner == atOnce && sc.Faults[0].Takes < sc.AppExits-20*ms && !sc.AppDrain && !sc.ProxyFirst && !sc.Observe
	},
	"dies early": func(sc *scenario) bool {
		return len(sc.Faults) == 1 && (sc.fault("app dies") || sc.fault("proxy dies")) && sc.Faults[0].From < 0 && !sc.AppDrain && !sc.Observe
	},
	"carrier dies": func(sc *scenario) bool {
		return sc.Carried == "app" && sc.fault("proxy dies") && len(sc.Faults) == 2 && sc.Faults[1].Takes > 8*ms && sc.AppManner == atOnce && sc.AppExits < 150*ms && sc.Before == "" && sc.Warm > 8*sec && !sc.ProxyFirst && !sc.Observe
	},
	"app dies": func(sc *scenario) bool {
		return sc.fault("app dies") && !sc.AppDrain && len(sc.Faults) == 1 && sc.busy(pooled)
	},
	"quiet-max is little": func(sc *scenario) bool {
		return sc.Propagation == 12*sec && sc.QuietMax < 5*sec && sc.Grace >= 30*sec && len(sc.Faults) == 0
	},
}

// unused reports whether no request comes.
func (sc *scenario) unused() bool {
	return !slices.ContainsFunc(sc.Clients, func(c clientSpec) bool { return c.Kind != check && (c.Kind != pooled || c.Every > 0) })
}

// checked reports whether kubelet looks at Envoy's port often.
func (sc *scenario) checked() bool {
	n := 0
	for _, c := range sc.Clients {
		if c.Kind == check && c.Every <= sec {
			n++
		}
	}
	return n > 1
}

func (sc *scenario) busy(kind string) bool {
	return slices.ContainsFunc(sc.Clients, func(c clientSpec) bool { return c.Kind == kind && c.Every > 0 })
}

func (sc *scenario) fault(kind string) bool {
	return slices.ContainsFunc(sc.Faults, func(f fault) bool { return f.Kind == kind })
}

// ofEachKind are the first seeds of every kind.
func ofEachKind(n int) []uint64 {
	seen := map[string]int{}
	var seeds []uint64
	for seed := uint64(1); seed <= 6000; seed++ {
		sc := random(seed)
		for name, is := range kinds {
			if seen[name] < n && is(&sc) {
				seen[name]++
				if !slices.Contains(seeds, seed) {
					seeds = append(seeds, seed)
				}
			}
		}
	}
	return seeds
}
