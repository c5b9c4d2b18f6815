package envoy

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// clusterHead is what stands before a cluster's hosts in /clusters.
type clusterHead struct {
	name        string
	addedViaAPI bool
}

// host is what /clusters says about one host. Envoy leaves zero values out: an absent stat is zero.
type host struct {
	ip       string
	port     uint32
	pipe     string
	internal bool  // another listener of the same Envoy
	active   int64 // requests and proxied TCP connections at it, or waiting for a connection to it
	total    int64 // requests and proxied TCP connections so far
	errors   int64 // of these, what failed
}

// readClusters reads /clusters?format=json one host at a time, so that a reply of any size needs the memory of one host.
// It calls each for every host of every cluster that wanted says yes to.
func readClusters(body io.Reader, wanted func(clusterHead) bool, each func(cluster string, h *host) error) error {
	s := newStream(body, maxValue)
	err := s.object(func(name string) error {
		if name != "cluster_statuses" {
			return s.skip()
		}
		return s.array(func() error { return readCluster(s, wanted, each) })
	})
	if err != nil {
		return fmt.Errorf("read clusters: %w", err)
	}
	return s.end()
}

func readCluster(s *stream, wanted func(clusterHead) bool, each func(string, *host) error) error {
	var head clusterHead
	asked, yes := false, false
	var h host
	ask := func() error {
		if head.name == "" {
			return errors.New("a cluster has no name, or its hosts come before it")
		}
		if !asked {
			asked, yes = true, wanted(head)
		}
		return nil
	}
	err := s.object(func(member string) error {
		switch member {
		case "name":
			return s.text(&head.name)
		case "added_via_api":
			return s.value(&head.addedViaAPI)
		case "host_statuses":
			if err := ask(); err != nil {
				return err
			}
			if yes {
				return s.array(func() error {
					raw, err := s.ReadValue()
					if err != nil {
						return s.explain(err)
					}
					h = host{}
					if err := h.read(raw); err != nil {
						return fmt.Errorf("host of cluster %q: %w", head.name, err)
					}
					return each(head.name, &h)
				})
			}
		}
		return s.skip()
	})
	if err != nil {
		return err
	}
	return ask()
}

// read takes what is needed of one host's JSON.
func (h *host) read(raw []byte) error {
	var wrong error
	c := cursor{text: raw}
	c.object(func(member []byte) {
		switch string(member) {
		case "address":
			h.readAddress(&c)
		case "stats":
			c.array(func() {
				if err := h.readStat(&c); err != nil {
					wrong = err
				}
			})
		default:
			c.skip()
		}
	})
	return wrong
}

func (h *host) readAddress(c *cursor) {
	field := func(name []byte) {
		switch string(name) {
		case "address":
			h.ip = string(c.word())
		case "port_value":
			port, _ := strconv.ParseUint(string(c.word()), 10, 16)
			h.port = uint32(port)
		case "path":
			h.pipe = string(c.word())
		default:
			c.skip()
		}
	}
	c.object(func(kind []byte) {
		switch string(kind) {
		case "socket_address", "pipe":
			c.object(field)
		case "envoy_internal_address":
			h.internal = true
			c.skip()
		default:
			c.skip()
		}
	})
}

// readStat reads {"type": "GAUGE", "value": "1", "name": "rq_active"}; a value of zero is left out.
func (h *host) readStat(c *cursor) error {
	var name, number []byte
	c.object(func(member []byte) {
		switch string(member) {
		case "name":
			name = c.word()
		case "value":
			number = c.word()
		default:
			c.skip()
		}
	})
	var into *int64
	gauge := false
	switch string(name) {
	case "rq_active", "rq_pending_active": // the latter is unknown to 1.36.2
		into, gauge = &h.active, true
	case "rq_total":
		into = &h.total
	case "rq_error":
		into = &h.errors
	default:
		return nil
	}
	if len(number) == 0 {
		return nil
	}
	n, err := strconv.ParseUint(string(number), 10, 64)
	if err != nil || gauge && n > math.MaxInt32 { // an underflow in Envoy: no reading at all
		return fmt.Errorf("host stat %s is %.40q", name, number)
	}
	*into += bounded(n)
	return nil
}

// bounded keeps sums of nonsense from overflowing.
func bounded(n uint64) int64 { return int64(min(n, math.MaxInt64/1024)) } //nolint:gosec // bounded
