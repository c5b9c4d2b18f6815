// Package ledger keeps what came of every stop of a pod that has an agent. The agent's log and counters go with its pod; its verdict
// stays in the pod's last status until the pod is deleted. The ledger watches pods, writes down each verdict, and counts a pod that
// vanished without one as unknown.
//
// It remembers the pods that it saw. After a restart those that are gone are looked for in vain and become unknown too; only a pod
// that began and ended while no controller ran leaves no trace.
//
// Rows are kept in one of three stores ([Open]) and read through the API ([API]), metrics ([Metrics]), one log line each, and an Event
// on the workload for each stop that was not clean.
package ledger
