// Package traffic reads what the app still has to do and what the sockets of the pod's network namespace say.
//
// A [Source] reads how many requests the app holds, a [Watch] says whether a container is gone,
// an [Inbound] follows the connections that arrive at some local ports.
//
// All three answer "unknown" together with an error rather than guess. Nothing here retries, waits or logs;
// every method may be called from several goroutines, one call of an object at a time is served.
//
// # Which sockets count
//
// A connection is open while its state is ESTABLISHED or CLOSE_WAIT. CLOSE_WAIT counts because a peer that has
// finished sending may still wait for its answer, and from outside this cannot be told from a peer that left.
// FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK and TIME_WAIT do not: the process has let go of the connection. What the kernel
// still has to send of them counts as bytes all the same: in a pod it is lost with the network namespace. SYN_RECV does not: it may be a port scan, and it is ESTABLISHED one round trip later.
//
// Connections of this very process are left out: reading a metric from the app must not look like traffic.
// They are recognised by their other end, which has to be among the sockets this process holds open.
// Other processes' loopback connections (the proxy's, an exec probe's) count.
//
// A connection first seen while its port has no listener, and had none at the look before, cannot have been accepted:
// it is an outgoing connection that was given the same local port number, and is left out.
package traffic
