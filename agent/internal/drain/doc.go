// Package drain is the core of the agent: all of its decisions and nothing else. It has no clock, no I/O, no goroutine and no log.
//
// Whatever happens (a hook, a signal, a reading, the passing of time) is an Input; Step turns a State and an Input into the next
// State and a Decision; the conductor carries the decision out and reports back with further inputs. The same inputs give the
// same drain.
//
// # Transitions
//
// A test compares this table with what the code does.
//
//	from         to           when
//	serving      confirming   one stop signal: a hook, or our own SIGTERM
//	serving      maintenance  somebody wants it: an operator, the drain file, an earlier agent's journal
//	serving      finished     the containers that --exit-with names have ended
//	confirming   announcing   a stop signal of a second container; or the only hook there is
//	confirming   draining     the same in maintenance
//	confirming   holding      no second stop signal within confirm-window
//	confirming   finished     it was our own SIGTERM alone: the agent is being restarted
//	confirming   serving      an operator's finish
//	confirming   maintenance  the same in maintenance
//	holding      serving      nothing in flight, restart-max over, container gone, or an operator's finish
//	holding      maintenance  the same in maintenance
//	holding      announcing   a stop signal of a second container
//	holding      draining     the same in maintenance
//	maintenance  serving      nobody wants maintenance any more
//	maintenance  confirming   one stop signal
//	maintenance  finished     the containers that --exit-with names have ended
//	announcing   draining     no new connection for quiet-min, or announce-max over
//	announcing   stopping     proxy or app died, deadline, finish
//	draining     settling     nothing is waited for any more: the table Waits
//	draining     stopping     drain-max, deadline, proxy or app died, finish
//	settling     draining     traffic came back, or a source became unknown
//	settling     stopping     zero held for the settle time; or as from draining
//	stopping     finished     the last stage is gone or has used up its share
//	stopping     serving      an answered hook was called again and nothing proves a pod stop: aborted
//	stopping     maintenance  the same in maintenance
//	finished     serving      nothing proved a pod stop: undone, aborted
//	finished     maintenance  the same in maintenance
//
// # Rules
//
// Unknown is never zero: a configured source that cannot be read, or whose reading is stale, holds the drain until the deadline.
// It stops counting only when its process was seen to be gone twice in a row.
//
// Waits have ranks, in one table, [Waits]: requests and bytes outrank propagation, which outranks the silence of new connections and the
// score of idle ones. What ends a wait never shortens one of a higher rank; only the budget ends all of them.
//
// Who wants maintenance is a set, [Intents]: each member is undone by its owner only. In observe mode nothing is done to anybody.
//
// No irreversible step on one stop signal: a stop needs those of two containers, our own SIGTERM and a container that leaves with it
// counted, and drain_listeners needs SIGTERM or the token besides.
// The drain of Envoy's owner, where it has one, comes with drain_listeners, at the latest when the proxy's hook is to be answered and
// the app was let go and leaves: the answer waits for it, half a second at most.
//
// Every hook is answered before its deadline, T0 + grace - margin; every drain ends in exactly one verdict.
package drain
