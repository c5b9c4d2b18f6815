//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const atOnce = 50 * time.Millisecond // what separates the clocks of two processes that write a timeline

// waves are the groups of containers that kubelet stops one after another: the regular ones, then each native sidecar in the
// reverse of its start order.
func waves(w *workload, adapt func(*workload)) [][]string {
	if adapt != nil {
		adapt(w)
	}
	var regular []string
	for _, c := range w.spec().Containers {
		regular = append(regular, c.Name)
	}
	all := [][]string{regular}
	for _, c := range slices.Backward(w.spec().InitContainers) {
		all = append(all, []string{c.Name})
	}
	return all
}

// causes checks within one timeline what must come before what, however close: a container's SIGTERM after its hook was answered, and
// after the end of every container of an earlier wave. It returns what is wrong.
func causes(steps []step, waves [][]string) []string {
	var wrong []string
	before := func(cause, effect *step) {
		if cause != nil && effect != nil && cause.at.After(effect.at.Add(atOnce)) {
			wrong = append(wrong, fmt.Sprintf("%q came %v before %q", effect.what, cause.at.Sub(effect.at), cause.what))
		}
	}
	for i, wave := range waves {
		for _, name := range wave {
			sigterm := find(steps, "sigterm "+name)
			before(find(steps, "answer "+name), sigterm)
			for _, earlier := range slices.Concat(waves[:i]...) {
				before(exit(steps, earlier), sigterm)
			}
		}
	}
	return wrong
}

// exit finds the end of a container's last life.
func exit(steps []step, name string) *step {
	for i, s := range slices.Backward(steps) {
		if strings.HasPrefix(s.what, "exit "+name+" ") {
			return &steps[i]
		}
	}
	return nil
}
