// Package timeline is the log of a drain: its lines, how they are kept, written, read back and drawn.
//
// The log's JSON is a public contract. One line is one object with exactly the keys below, in this order; a reader must
// ignore keys it does not know. Times that end in _ms are whole milliseconds. T0 is the moment of the first trigger.
// null means that nobody could read it; it never means zero. A text that has nothing to say is "".
//
// # Events
//
//	time             wall clock, RFC 3339 in UTC with milliseconds
//	level            "info"; "warn": a person should look, no client was hurt; "error": a client may have been
//	msg              "drain"
//	seq              1, 2, 3 … since the process started; a hole means lines that were lost
//	elapsed_ms       since T0
//	from, to         phase before and after: serving, confirming, holding, maintenance, announcing, draining, settling,
//	                 stopping, finished; equal when the phase did not change
//	reason           why, in words for people; not to be parsed
//	proxy_in_flight  requests in flight at the proxy; null: unknown, or there is no proxy to read
//	proxy_rung       which rung of the proxy ladder gave that number; "" with null
//	app_in_flight    requests in flight in the app; null: unknown, or no app source is configured
//	app_source       which source gave that number; "" with null
//	connections      inbound connections open at the proxy; null: unknown
//	score            stopping score: requests that stopping now is expected to hit; null: unknown, or not asked for yet
//	action           what was done: a lever ("drain_listeners", "healthcheck_fail", …), or "hold NAME": the hook of this
//	                 container arrived, "answer NAME": it was answered, "would answer NAME": observe mode would have
//	result           how the action ended: "ok" or the error; "" while it has not, or when nothing was done
//	left_ms          until the deadline, negative when it is past; null: no deadline is set
//
// # Verdict
//
// Every drain ends in one.
//
//	time, level, msg  as above; msg is "verdict"
//	outcome           clean, deadline, proxy_died, app_died, finished_by_operator, aborted, watchdog, container_restart,
//	                  maintenance
//	total_ms          from T0 to the verdict
//	phases            phase → milliseconds spent in it, all visits added up; phases never entered are absent
//	in_flight_curve   [[ms since T0, requests in flight], …], at most 120 points: first, last, highs and lows are kept. The
//	                  number is the larger of the proxy's and the app's. Moments at which a configured source was unknown
//	                  have no point; [] when there was none at all
//	new_connections_after_t0  null: unknown
//	idle_connections_left     connections still open when the first hook was answered; null: unknown
//	arrivals_after_release    requests that came after the first hook was answered; null: unknown
//	score             when the first hook was answered; null: unknown
//	held_longest      the container or source waited for longest; "" when nothing was waited for
//	cut               what was in flight when its process ended, or when the agent had to, after it was let go → how many: the
//	                  last reading before that end, so that what ended within the last polling period is in it too. {}: none
//	                  was seen. A source that could not be read when its container was let go is not in it.
//	                  A key is "NAME", or "NAME CLASS" where the source tells the class; what it does not tell stays under
//	                  "NAME", so that all keys of a NAME add up to its total. "proxy" counts what it had in flight when its own
//	                  process or the app's ended: a request may stand under "proxy" and under "app".
//	                  Classes of proxy: requests (HTTP; gRPC, its streams too), websocket, upgrade (WebSocket, CONNECT or
//	                  another, where more than WebSocket is allowed), tcp, tls (passed through). Those of an app are the
//	                  values of its metric's labels
//	                  "bytes": what a client had not taken of its answer when it was no longer waited for
//	trigger           the fact that set T0
//	reason            why it ended so, in words for people; not to be parsed. "hook cut: …" at its beginning: kubelet, or what
//	                  stands before us, hung up on a hook that was still held
//	arrivals_curve    [[ms since T0, requests since then, new connections since then, connections open], …], at most 60 points of
//	                  at most 40 bytes, 20 as a rule: with the next key what it takes to replay the stop under other settings.
//	                  Absent when none of them could be read
//	requests_per_second  before the stop, without --background; absent when unknown
//
// The termination message is the same object without the curves, with shorter texts where 1 KiB asks for it
// ([Verdict.Termination]).
//
// # Lost lines
//
// Where a log was read too slowly, an event of level "warn" that repeats the seq and elapsed_ms of the last lost line
// says how many were lost ([Sink]).
package timeline
