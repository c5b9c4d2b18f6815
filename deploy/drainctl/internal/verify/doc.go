// Package verify replaces a workload's pods once, as kubectl rollout restart does, and judges what every pod that went showed: the
// agent's verdict, kubelet's events, the endpoints, and requests of its own. Watching is in watch.go and load.go; what it means is
// decided by functions of what was seen (before.go, judge.go).
package verify
