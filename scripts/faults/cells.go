package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// cell is one stop: a fault, what is in flight, and where the agent stands in the pod.
type cell struct {
	shape string
	fault fault
	work  string
}

func (c cell) name() string { return c.shape + "/" + c.fault.name + "/" + c.work }

// What is in flight at the deletion.
const (
	idle = "idle" // nothing
	long = "long" // one request of 6 s
	load = "load" // 30 requests/s of four kinds of client, until half a second after the deletion, as a balancer that is told sends them
)

// Where the agent stands.
const (
	native  = "native"  // the first native sidecar
	classic = "classic" // a container beside the others
)

// cells returns all of them.
func cells() (all []cell) {
	for _, f := range faults() {
		for _, shape := range []string{native, classic} {
			for _, work := range []string{idle, long, load} {
				if len(f.only) > 0 && !slices.Contains(f.only, work) || f.nativeOnly && shape == classic {
					continue
				}
				all = append(all, cell{shape, f, work})
			}
		}
	}
	return all
}

// choose returns the cells that one of the patterns matches, all where there is none.
func choose(patterns []string) (chosen []cell, err error) {
	for _, c := range cells() {
		if len(patterns) == 0 {
			chosen = append(chosen, c)
		}
		for _, p := range patterns {
			if ok, err := path.Match(p, c.name()); err != nil {
				return nil, fmt.Errorf("choose cells: %q is no pattern: %w", p, err)
			} else if ok {
				chosen = append(chosen, c)
				break
			}
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("choose cells: none matches %s; --list shows all", strings.Join(patterns, ", "))
	}
	return chosen, nil
}
