package envoy

import (
	"errors"
	"fmt"
	"io"
	"math"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// tolerant accepts the fields of Envoys newer than our types.
var tolerant = protojson.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true}

// clusterHead is what stands before a cluster's hosts in /clusters.
type clusterHead struct {
	name        string
	addedViaAPI bool
}

// readClusters reads /clusters?format=json one host at a time, so that a reply of any size needs the memory of one host.
// It calls host for each host of every cluster that wanted says yes to. Envoy leaves zero values out: an absent stat is zero.
func readClusters(body io.Reader, wanted func(clusterHead) bool, host func(cluster string, h *adminv3.HostStatus) error) error {
	s := newStream(body, maxValue)
	err := s.object(func(name string) error {
		if name != "cluster_statuses" {
			return s.skip()
		}
		return s.array(func() error { return readCluster(s, wanted, host) })
	})
	if err != nil {
		return fmt.Errorf("read clusters: %w", err)
	}
	return s.end()
}

func readCluster(s *stream, wanted func(clusterHead) bool, host func(string, *adminv3.HostStatus) error) error {
	var head clusterHead
	asked, yes := false, false
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
			return s.value(&head.name)
		case "added_via_api":
			return s.value(&head.addedViaAPI)
		case "host_statuses":
			if err := ask(); err != nil {
				return err
			}
			if yes {
				return s.array(func() error { return readHost(s, head.name, host) })
			}
		}
		return s.skip()
	})
	if err != nil {
		return err
	}
	return ask()
}

func readHost(s *stream, cluster string, host func(string, *adminv3.HostStatus) error) error {
	raw, err := s.ReadValue()
	if err != nil {
		return s.explain(err)
	}
	h := new(adminv3.HostStatus)
	if err := tolerant.Unmarshal(raw, h); err != nil {
		return fmt.Errorf("host of cluster %q: %w", cluster, err)
	}
	return host(cluster, h)
}

// hostSums adds up what the hosts of the inbound clusters say.
type hostSums struct {
	classes classes
	apart   map[string]int64 // active, of the classes that clusters tell
	active  int64            // requests and proxied TCP connections at a host, or waiting for a connection to one
	total   int64            // requests and proxied TCP connections so far
	errors  int64            // of these, what failed
}

func (t *hostSums) add(cluster string, h *adminv3.HostStatus) error {
	for _, stat := range h.GetStats() {
		n := stat.GetValue()
		if n > math.MaxInt32 && stat.GetType() == adminv3.SimpleMetric_GAUGE {
			return fmt.Errorf("host stat %s is %d", stat.GetName(), n) // an underflow in Envoy: no reading at all
		}
		switch stat.GetName() {
		case "rq_active", "rq_pending_active": // the latter is unknown to 1.36.2
			t.active += int64(n)
			if class := t.classes.of(cluster); class != "" && n > 0 {
				t.apart[class] += int64(n)
			}
		case "rq_total":
			t.total += bounded(n)
		case "rq_error":
			t.errors += bounded(n)
		}
	}
	return nil
}

// bounded keeps sums of nonsense from overflowing.
func bounded(n uint64) int64 { return int64(min(n, math.MaxInt64/1024)) } //nolint:gosec // bounded

// readMessages decodes the array called field of the reply, one message at a time.
func readMessages[M any, P interface {
	*M
	proto.Message
}](body io.Reader, field string, each func(P) error,
) error {
	s := newStream(body, maxValue)
	err := s.object(func(name string) error {
		if name != field {
			return s.skip()
		}
		return s.array(func() error {
			raw, err := s.ReadValue()
			if err != nil {
				return s.explain(err)
			}
			m := P(new(M))
			if err := tolerant.Unmarshal(raw, m); err != nil {
				return err
			}
			return each(m)
		})
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", field, err)
	}
	return s.end()
}
