// Package envoy reads and steers one Envoy through its admin interface.
//
// Reading is a ladder: the best rung that can be read wins and every [Sample] names it.
//
//	clusters           rq_active + rq_pending_active of the hosts behind inbound listeners (/clusters)
//	http               http.<prefix>.downstream_rq_active of inbound listeners (/stats)
//	listener_cx        listener.<address>.downstream_cx_active of inbound listeners (/stats)
//	total_connections  server.total_connections, written by Envoy only every few seconds (/stats)
//
// The first rung tells TCP and TLS that is passed through apart where their clusters get no HTTP, the second upgrades ([Sample.Classes]).
//
// The first two are read together where both can be seen: hosts are cheap and survive Istio's stats filter, the http gauge sees requests that have no host yet.
// A host's rq_active counts a proxied TCP connection as one (measured on 1.36.2, 1.39.3 and 1.40.0), so the first rung sees TCP too and the second does not.
//
// Which clusters count is decided by a rule, for each answer anew: those that inbound listeners name, Istio's by their names, a sidecar's by
// hosts that lead into its pod, a gateway's but for those that Envoy calls for itself. A filter shortens the answer only while Envoy's counters of changes
// of its clusters and listeners stand still; a zero needs a whole answer newer than the last change. The configuration is read beside the readings.
// Filters that neither hosts nor http gauges count have gauges of their own, or their listener's connections; else what is in flight is unknown.
// While an Envoy from before a hot restart has connections, it is unknown too.
//
// Envoy answers its admin interface on its main thread. Whoever calls [Client.Sample] waits at least 20 times [Sample.Took] less [Sample.Spared] before calling again, so that Envoy spends at most 5 % of that thread on the question for hosts.
// Statistics cost Envoy a walk through all it has (57 ms for 107,000, measured on 1.40.0), so beside the hosts they are read for at most 1 % of its time while requests are under way, and 5 % when none is.
// A rung that cannot be read once a second within these 5 % is demoted and named in [Sample.Demoted]: statistics are still read beside the hosts, as rarely as that; alone only when nothing else is left.
// What was not read is unknown, bytes too.
//
// The package never logs and never retries a failed call: it returns what it saw. Unknown is never zero.
package envoy
