package budget

import "time"

// Preset is what is known of who sends new connections to the pod.
type Preset struct {
	Name        string        // the value of --preset
	Propagation time.Duration // how long after the pod's deletion new connections must be expected
	AnnounceMax time.Duration // longest wait for new connections to cease before draining begins
	QuietMin    time.Duration // silence of new connections that counts
	QuietMax    time.Duration // longest wait for silence while draining
	Exposure    time.Duration // how long a client can still hit us after the first process was told to stop
	Source      string        // where the numbers come from
}

// Presets returns the table behind --preset. It is a function because nothing here may be changed at run time.
func Presets() []Preset {
	const ms, s = time.Millisecond, time.Second
	return []Preset{
		{
			"kube-proxy", 1500 * ms, 2 * s, 500 * ms, 15 * s, 200 * ms,
			"kube-proxy syncs once a second: the last new connection came 0.9-1.06 s after the endpoint left (measured, Kubernetes 1.34, iptables mode)",
		},
		{
			"istio", 2500 * ms, 5 * s, 500 * ms, 15 * s, 200 * ms,
			"istiod debounces pushes for 100 ms to 10 s (PILOT_DEBOUNCE_AFTER and _MAX); a busy control plane is met by the rule of four gaps, up to quiet-max",
		},
		{
			"alb", 20 * s, 30 * s, 2 * s, 60 * s, 200 * ms,
			"the AWS controller deregisters the target after the pod turns terminating, seconds later; users settle on 20-60 s (aws-load-balancer-controller 1064, 1719). Needs a grace period above a minute",
		},
		{
			"nlb", 120 * s, 125 * s, 2 * s, 60 * s, 200 * ms,
			"users measured that an NLB sends new connections for about 120 s after deregistration whatever the setting (aws-load-balancer-controller 2366, 3270)",
		},
		{
			"gclb", 60 * s, 65 * s, 2 * s, 60 * s, 200 * ms,
			"removal from a backend service may take a minute beyond the draining timeout (Google Cloud, enabling connection draining)",
		},
	}
}

// Find returns the preset of that name.
func Find(name string) (Preset, bool) {
	for _, p := range Presets() {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}

// Names returns the presets' names, in the table's order.
func Names() []string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return names
}
