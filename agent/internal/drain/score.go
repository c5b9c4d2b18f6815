package drain

// Score is how many requests stopping now would hit, as far as the pod's own traffic tells:
//
//	n + min(λ, 1/s)·τ
//
// n is what the proxy has in flight: stopping now hits all of it, and a client opens a long stream again at once, on the same connection.
// λ is the request rate per connection before the stop times the connections still open, s the seconds since the last request,
// τ the time during which a client can still hit us after the first process was told to stop. Unknown when nobody can tell the
// arrivals, or what is in flight. Without an Envoy n is what the apps' sources say, and λ what their clients send, in segments: of HTTP/1
// without pipelining no fewer than requests, of HTTP/2 perhaps fewer. It is 0 where no connection is open. A pool that was never used scores 0; a pool that comes back rarely is waited for until the silence speaks.
func Score(p *Policy, s *State) (score float64, known bool) {
	hit := 0.0
	for i := range p.Sources {
		switch r := s.Sources[i]; {
		case !p.Direct() || !s.counts(p, i):
		case !r.Fresh(s.Now):
			return 0, false
		default:
			hit += float64(r.N)
		}
	}
	open := s.openConns()
	if p.Direct() && open.Count == Known(0) {
		return hit, true
	}
	if !s.Load.Known || !s.Requests.Last.Fresh(s.Now) {
		return 0, false
	}
	if p.ProxyAdmin && !s.gone(p.Proxy()) {
		if !s.Proxy.InFlight.Fresh(s.Now) {
			return 0, false
		}
		hit = float64(s.Proxy.InFlight.N)
	}
	rate := s.Load.PerSecond
	if open.Known && s.Load.ConnsOK {
		rate *= float64(open.N) / float64(max(1, s.Load.Conns))
	}
	if silence := s.Requests.silence(0).Seconds(); silence*rate > 1 {
		rate = 1 / silence
	}
	return hit + rate*p.Exposure.Seconds(), true
}
