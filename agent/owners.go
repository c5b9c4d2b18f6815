package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/drain-agent/drain-agent/agent/internal/envoy"
)

// owner is who runs an Envoy beside or around us, and what that program does when the pod stops. Nothing else in the agent knows
// their names; docs/how-to/owners has a page for each.
type owner struct {
	name string

	// Signs, one of which is enough. A sign that ends in * stands for everything that begins so.
	nodeID, metadata, listeners []string

	drain string // POST: it drains Envoy, and its own SIGTERM costs nothing afterwards; "" where it has no such thing
	quit  string // POST: it ends itself and Envoy; "" where Envoy's own /quitquitquit does
	does  string // at SIGTERM, without us

	lingers bool // at SIGTERM it lets Envoy finish, whatever was told it before
}

const plainEnvoy = "envoy"

// owners are asked in this order.
func owners() []owner {
	return []owner{
		{
			name:   "istio",
			nodeID: []string{"sidecar~*", "router~*"}, metadata: []string{"ISTIO_VERSION", "PILOT_SAN"}, listeners: []string{"virtualInbound"},
			drain: "http://127.0.0.1:15020/drain", quit: "http://127.0.0.1:15020/quitquitquit",
			does: "pilot-agent drains for terminationDrainDuration (5s), then kills Envoy; told before, it ends at once",
		},
		{
			name:      "envoy-gateway",
			listeners: []string{"envoy-gateway-proxy-ready-*", "envoy-gateway-proxy-stats-*"},
			does:      "its shutdown-manager fails the health check and polls connections, 10s to 60s",
		},
		{
			name:      "contour",
			listeners: []string{"ingress_http", "ingress_https"},
			does:      "its shutdown-manager fails the health check and polls HTTP connections without an end of its own",
		},
		{
			name:      "kuma",
			metadata:  []string{"dataplane.proxyType", "dataplane.admin.port", "dataplane.resource"},
			listeners: []string{"kuma:*"},
			does:      "kuma-dp fails the health check and sleeps drainTime (30s); native: it ends at once",
			lingers:   true,
		},
		{
			name:      "consul",
			listeners: []string{"public_listener:*"},
			does:      "consul-dataplane drains and sleeps its grace period (30s with the chart), then quits Envoy",
			lingers:   true,
		},
		{name: plainEnvoy, does: "Envoy itself ends at once"},
	}
}

// ownerOf finds the owner of an Envoy by what it says of itself, unless the flag --proxy names it. The second value is the sign.
func ownerOf(flag string, d envoy.Description) (found owner, evidence string) {
	for _, own := range owners() {
		switch {
		case flag == own.name:
			return own, "--proxy=" + flag
		case flag != "auto":
		case own.name == plainEnvoy:
			return own, "no sign of another owner"
		default:
			if sign := own.sign(d); sign != "" {
				return own, sign
			}
		}
	}
	return owner{name: plainEnvoy}, ""
}

func (o *owner) sign(d envoy.Description) string {
	for _, look := range []struct {
		what         string
		seen, wanted []string
	}{
		{"node id", []string{d.NodeID}, o.nodeID},
		{"node metadata", d.MetadataKeys, o.metadata},
		{"listener", d.Listeners, o.listeners},
	} {
		i := slices.IndexFunc(look.seen, func(seen string) bool {
			return slices.ContainsFunc(look.wanted, func(wanted string) bool { return matches(wanted, seen) })
		})
		if i >= 0 {
			return look.what + " " + look.seen[i]
		}
	}
	return ""
}

func matches(sign, seen string) bool {
	if prefix, ok := strings.CutSuffix(sign, "*"); ok {
		return strings.HasPrefix(seen, prefix)
	}
	return sign == seen
}

func (o *owner) text(evidence string) string {
	return fmt.Sprintf("owner %s (%s): %s", o.name, evidence, o.does)
}
