package main

import (
	"time"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/agent/internal/drain"
)

// findPreset returns the preset of that name, or the default one and the names there are.
func findPreset(name string) (budget.Preset, []string) {
	found, ok := budget.Find(name)
	if !ok {
		found, _ = budget.Find("kube-proxy")
		return found, budget.Names()
	}
	return found, nil
}

// applyPreset fills in what the flags leave open.
func applyPreset(p budget.Preset, f *runFlags, to *drain.Policy, proxyFirst bool) {
	if proxyFirst {
		p.Exposure = 5 * time.Millisecond
	}
	to.Propagation = or(f.Propagation, p.Propagation)
	to.AnnounceMax = or(f.AnnounceMax, p.AnnounceMax)
	to.QuietMin = or(f.QuietMin, p.QuietMin)
	to.QuietMax = or(f.QuietMax, p.QuietMax)
	to.Exposure = or(f.Exposure, p.Exposure)
	to.Background, to.AcceptLoss = f.Background.v, f.AcceptLoss.v
}

func or[T any](given value[T], preset T) T {
	if given.set {
		return given.v
	}
	return preset
}
