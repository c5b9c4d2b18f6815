// Package probes is health checking for a process in Kubernetes: what is checked, how a failing dependency counts, and the
// HTTP and gRPC faces that kubelet, balancers and people ask.
//
// Four questions, each with its own set of checks ([Config]) and its own consequence:
//
//	Startup    has it come up?         kubelet waits with the other two; once passed, a check is not run again
//	Liveness   is it beyond repair?    kubelet restarts the container; only what a restart cures belongs here
//	Readiness  shall it get traffic?   endpoints are added and removed
//	Synthetic  does the whole path     nobody acts by himself; for monitors and canaries
//	           work, end to end?
//
// Liveness does not fail because the process is shutting down: a restart in the middle of a drain would lose what the drain
// saves. Readiness is the owner's to fail while the checks still pass ([Registry.FailReadiness]). It also fails until the
// startup checks have passed, for callers that know nothing of startup probes.
//
// # How a failing check counts
//
// [Required] fails its question. It is for what this replica alone can break: its listener, its cache, its disk.
//
// [Degraded] is reported and fails nothing. It is for what the replica can serve without.
//
// [Shared] is for what all replicas use, a database or a payment provider. When it breaks, it breaks for all of them: if each
// failed its readiness, no endpoint would be left and callers would get refused connections in place of clean errors and cached
// answers, and all replicas would come back at the same moment on a dependency that has just recovered. So a Shared check counts as
// Required until it has passed once in this process, which stops a rollout whose new configuration cannot reach the
// dependency, and as Degraded ever after. That one replica alone has lost its way to a dependency shows in its responses, and
// is for the proxy's outlier detection, which knows the other replicas and ejects only a share of them.
//
// # Cost
//
// A check without Every is run for each question, but never twice at a time: who asks while it runs gets that run's result.
// A slow check sets Every: it is then run in the background and every question is answered from its last result.
// A check that does not return within its Timeout has failed; it is not started again before it has returned.
package probes
