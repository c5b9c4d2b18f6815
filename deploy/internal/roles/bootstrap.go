package roles

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bootstrap is what an Envoy configuration says of its own pod.
type Bootstrap struct {
	Admin    string           // http://127.0.0.1:PORT or unix:///PATH; "" where there is none or it is no plain value
	Listens  []int32          // ports of its listeners and of its admin
	Inbound  bool             // it has a listener that others can reach
	Outbound bool             // it has listeners for the pod's own calls
	Dynamic  bool             // listeners or clusters come from a control plane too
	Leads    map[int32]string // ports of this pod to which its inbound listeners lead, with the cluster's name
	Consults map[int32]string // ports of this pod that Envoy itself asks: authorization, rate limits, access logs, tracing
}

// ParseBootstrap reads an Envoy configuration, YAML or JSON, in snake case or camel case. false: the text is none.
func ParseBootstrap(text string) (*Bootstrap, bool) {
	var raw any
	if err := yaml.Unmarshal([]byte(text), &raw); err != nil {
		return nil, false
	}
	top, ok := canonical(raw).(map[string]any)
	if !ok {
		return nil, false
	}
	static, _ := top["staticresources"].(map[string]any)
	if top["admin"] == nil && static == nil && top["dynamicresources"] == nil {
		return nil, false
	}
	b := &Bootstrap{Leads: map[int32]string{}, Consults: map[int32]string{}, Dynamic: top["dynamicresources"] != nil}
	if admin, ok := top["admin"].(map[string]any); ok {
		address, _ := admin["address"].(map[string]any)
		host, port := socketOf(address)
		if pipe, ok := address["pipe"].(map[string]any); ok {
			b.Admin = "unix://" + fmt.Sprint(pipe["path"])
		} else if port > 0 {
			if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() && ip.To4() != nil {
				host = "127.0.0.1"
			}
			b.Admin = "http://" + net.JoinHostPort(host, strconv.Itoa(int(port)))
			b.Listens = append(b.Listens, port)
		}
	}
	b.read(static)
	return b, true
}

func (b *Bootstrap) read(static map[string]any) {
	clusters := map[string]map[string]any{}
	list, _ := static["clusters"].([]any)
	for _, c := range list {
		if m, ok := c.(map[string]any); ok {
			clusters[fmt.Sprint(m["name"])] = m
		}
	}
	listeners, _ := static["listeners"].([]any)
	for _, l := range listeners {
		listener, ok := l.(map[string]any)
		if !ok {
			continue
		}
		address, _ := listener["address"].(map[string]any)
		host, port := socketOf(address)
		if port > 0 {
			b.Listens = append(b.Listens, port)
		}
		direction := fmt.Sprint(listener["trafficdirection"])
		inbound := direction != "OUTBOUND" && direction != "2" && !loopback(host)
		b.Inbound = b.Inbound || inbound
		b.Outbound = b.Outbound || !inbound
		traffic, asked := map[string]bool{}, map[string]bool{}
		clustersOf(listener, "", traffic, asked)
		for name := range traffic {
			for _, port := range localPorts(clusters[name]) {
				if inbound {
					b.Leads[port] = name
				}
			}
		}
		for name := range asked {
			for _, port := range localPorts(clusters[name]) {
				b.Consults[port] = name
			}
		}
	}
}

// canonical lowers every key and takes the underscores out of it: port_value and portValue are one; values stay.
func canonical(value any) any {
	switch v := value.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, one := range v {
			m[strings.ToLower(strings.ReplaceAll(key, "_", ""))] = canonical(one)
		}
		return m
	case map[any]any:
		m := make(map[string]any, len(v))
		for key, one := range v {
			m[strings.ToLower(strings.ReplaceAll(fmt.Sprint(key), "_", ""))] = canonical(one)
		}
		return m
	case []any:
		for i, one := range v {
			v[i] = canonical(one)
		}
	}
	return value
}

func socketOf(address map[string]any) (host string, port int32) {
	socket, _ := address["socketaddress"].(map[string]any)
	host, _ = socket["address"].(string)
	switch n := socket["portvalue"].(type) {
	case int:
		port = int32(n) //nolint:gosec // checked below
	case string:
		parsed, _ := strconv.ParseUint(n, 10, 16)
		port = int32(parsed)
	}
	if port < 0 || port > 65535 {
		port = 0
	}
	return host, port
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// clustersOf collects the clusters that a listener's traffic goes to, and those that Envoy asks on its own behalf.
func clustersOf(value any, parent string, traffic, asked map[string]bool) {
	switch v := value.(type) {
	case []any:
		for _, one := range v {
			clustersOf(one, parent, traffic, asked)
		}
	case map[string]any:
		for key, one := range v {
			name, isText := one.(string)
			switch {
			case isText && (key == "clustername" || key == "cluster" && parent == "serveruri"), isText && key == "collectorcluster":
				asked[name] = true
			case isText && (key == "cluster" || key == "name" && parent == "clusters"):
				traffic[name] = true
			default:
				clustersOf(one, key, traffic, asked)
			}
		}
	}
}

// localPorts returns the ports of a cluster's endpoints in this pod.
func localPorts(cluster map[string]any) []int32 {
	ports := map[int32]bool{}
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case []any:
			for _, one := range v {
				walk(one)
			}
		case map[string]any:
			if host, port := socketOf(v); loopback(host) && port > 0 {
				ports[port] = true
			}
			for _, one := range v {
				walk(one)
			}
		}
	}
	walk(cluster["loadassignment"])
	walk(cluster["hosts"]) // the form before 2019
	return slices.Sorted(maps.Keys(ports))
}
