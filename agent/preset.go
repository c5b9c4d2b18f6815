package main

import (
	"maps"
	"slices"
	"time"

	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// preset is what is known of who sends new connections to the pod, with the source of each number.
type preset struct {
	name                                         string
	propagation, announceMax, quietMin, quietMax time.Duration
	exposure                                     time.Duration
	background, acceptLoss                       float64
	source                                       string
}

// presets returns the table behind --preset. It is a function because nothing here may be changed at run time.
func presets() []preset {
	const ms, s = time.Millisecond, time.Second
	return []preset{
		{
			"kube-proxy", 1500 * ms, 2 * s, 500 * ms, 15 * s, 200 * ms, 0, 0.02,
			"kube-proxy syncs once a second: the last new connection came 0.9-1.06 s after the endpoint left (measured, Kubernetes 1.34, iptables mode)",
		},
		{
			"istio", 2500 * ms, 5 * s, 500 * ms, 15 * s, 200 * ms, 0, 0.02,
			"istiod debounces pushes for 100 ms to 10 s (PILOT_DEBOUNCE_AFTER and _MAX); a busy control plane is met by the rule of four gaps, up to quiet-max",
		},
		{
			"alb", 20 * s, 30 * s, 2 * s, 60 * s, 200 * ms, 0, 0.02,
			"the AWS controller deregisters the target after the pod turns terminating, seconds later; users settle on 20-60 s (aws-load-balancer-controller 1064, 1719). Needs a grace period above a minute",
		},
		{
			"nlb", 120 * s, 125 * s, 2 * s, 60 * s, 200 * ms, 0, 0.02,
			"users measured that an NLB sends new connections for about 120 s after deregistration whatever the setting (aws-load-balancer-controller 2366, 3270)",
		},
		{
			"gclb", 60 * s, 65 * s, 2 * s, 60 * s, 200 * ms, 0, 0.02,
			"removal from a backend service may take a minute beyond the draining timeout (Google Cloud, enabling connection draining)",
		},
	}
}

func findPreset(name string) (preset, []string) {
	byName := map[string]preset{}
	for _, p := range presets() {
		byName[p.name] = p
	}
	found, ok := byName[name]
	if !ok {
		return byName["kube-proxy"], slices.Sorted(maps.Keys(byName))
	}
	return found, nil
}

// apply fills in what the flags leave open.
func (p preset) apply(f *runFlags, to *drain.Policy, proxyFirst bool) {
	if proxyFirst {
		p.exposure = 5 * time.Millisecond
	}
	to.Propagation = or(f.Propagation, p.propagation)
	to.AnnounceMax = or(f.AnnounceMax, p.announceMax)
	to.QuietMin = or(f.QuietMin, p.quietMin)
	to.QuietMax = or(f.QuietMax, p.quietMax)
	to.Exposure = or(f.Exposure, p.exposure)
	to.Background, to.AcceptLoss = f.Background.v, f.AcceptLoss.v
}

func or[T any](given value[T], preset T) T {
	if given.set {
		return given.v
	}
	return preset
}
