package envoy

import "strings"

// The classes that Envoy can tell apart (measured on 1.36.2 and 1.40.0). A stream of gRPC is a request like any other to it, and so is an upgrade that runs: both its gauges count it.
const (
	classRequests  = "requests"
	classWebSocket = "websocket" // upgrades, where no other one is allowed
	classUpgrade   = "upgrade"   // WebSocket, CONNECT or another
	classTCP       = "tcp"
	classTLS       = "tls" // passed on without ending it
)

// classes is what the inbound listeners say about what their clusters and gauges count.
type classes struct {
	http    map[string]bool   // clusters that HTTP leads to
	tcp     map[string]string // class of the clusters that TCP proxies lead to
	upgrade string            // class of the upgrades; "" when none is allowed
}

func (c *classes) add(s service, clusters []string) {
	for _, name := range clusters {
		switch {
		case s.prefix != "":
			c.http[name] = true
		case s.tls && c.tcp[name] != classTCP:
			c.tcp[name] = classTLS
		default:
			c.tcp[name] = classTCP
		}
	}
	for _, u := range s.upgrades {
		if strings.EqualFold(u.Type, "websocket") && c.upgrade != classUpgrade {
			c.upgrade = classWebSocket
		} else {
			c.upgrade = classUpgrade
		}
	}
}

// of returns the class of what a cluster's hosts count; "" when it is HTTP, or cannot be told because HTTP leads there too.
func (c *classes) of(cluster string) string {
	if c.http[cluster] {
		return ""
	}
	return c.tcp[cluster]
}

// mixed reports whether TCP and HTTP lead to the same cluster.
func (c *classes) mixed() bool {
	for name := range c.tcp {
		if c.http[name] {
			return true
		}
	}
	return false
}

// split tells apart what HTTP has in flight.
func (r *reading) split(http int64) {
	v, upgrades := r.c.view, r.c.total.upgrades
	told := r.out.Classes
	if told == nil {
		told = map[string]int64{}
	}
	if upgrades.Known && upgrades.N > 0 {
		told[v.classes.upgrade] = min(upgrades.N, http)
		http -= told[v.classes.upgrade]
	}
	if (upgrades.Known || v.classes.upgrade == "") && !v.classes.mixed() && !v.Guessed && http > 0 {
		told[classRequests] = http
	}
	r.out.Classes = told
}
