package envoy

import (
	"net"
	"strconv"
	"strings"
)

// localPort returns the port of a host of ours: on loopback or on one of this machine's addresses.
func localPort(ip string, port uint32, ours map[string]bool) uint16 {
	if parsed := net.ParseIP(ip); parsed != nil && port <= 65535 && (parsed.IsLoopback() || ours[parsed.String()]) {
		return uint16(port)
	}
	return 0
}

func ownAddresses() map[string]bool {
	ours := make(map[string]bool)
	addrs, _ := net.InterfaceAddrs() // none known: loopback is still recognised
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok {
			ours[ip.IP.String()] = true
		}
	}
	return ours
}

// istioPort returns the port in the name of an Istio inbound cluster, "inbound|8080||", whose hosts appear with the first request only.
func istioPort(cluster string) uint16 {
	rest, ok := strings.CutPrefix(cluster, "inbound|")
	if !ok {
		return 0
	}
	digits, _, _ := strings.Cut(rest, "|")
	port, _ := strconv.ParseUint(digits, 10, 16)
	return uint16(port)
}
