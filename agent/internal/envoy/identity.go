package envoy

import (
	"fmt"
	"time"
)

// changes are Envoy's counters of changes of its configuration. While they stand still, no cluster and no listener came or went.
type changes struct {
	known  bool
	counts [6]int64
	epoch  int64 // of the hot restart
}

const (
	pendingBytes = "http2.pending_send_bytes"
	uptime       = "server.uptime"
	restartEpoch = "server.hot_restart_epoch"
	parentConns  = "server.parent_connections"
)

// changeCounters are Envoy's counters of changes; always is what is asked for in every reading of the statistics.
var (
	changeCounters = [6]string{
		"cluster_manager.cluster_added", "cluster_manager.cluster_modified", "cluster_manager.cluster_removed",
		"listener_manager.listener_added", "listener_manager.listener_modified", "listener_manager.listener_removed",
	}
	always = append(changeCounters[:], uptime, restartEpoch, parentConns, pendingBytes)
)

// identify learns from the statistics whether the configuration changed, and which process they come from.
func (c *Client) identify(now time.Time, values map[string]int64) {
	_, shown := values[changeCounters[0]]
	_, listeners := values[changeCounters[3]]
	moved := changes{known: shown && listeners, epoch: values[restartEpoch]}
	for i, name := range changeCounters {
		moved.counts[i] = values[name]
	}
	up := values[uptime]
	if moved.epoch != c.moved.epoch && c.uptime > 0 || up < c.uptime {
		c.lookNow, c.whole.known = true, false // another process answers
	}
	c.moved, c.uptime = moved, up
	c.elder = c.elderHolds(now, values)
}

// elderHolds says what is unknown while the Envoy from before a hot restart still has connections: nobody asks that one any more.
// It is written every few seconds, for the first time some seconds after the start.
func (c *Client) elderHolds(now time.Time, values map[string]int64) string {
	n, shown := values[parentConns]
	switch {
	case c.view.epoch == 0 && values[restartEpoch] == 0:
		return ""
	case !shown && now.Sub(c.view.at)+c.view.Uptime > c.view.parentShutdown: // it was made to end
		return ""
	case !shown:
		return "the Envoy from before the hot restart may still have requests: let the stats_matcher show " + parentConns
	case values[uptime] == 0:
		return "the Envoy from before the hot restart may still have requests: its connections are counted in some seconds"
	case n > 0:
		return fmt.Sprintf("the Envoy from before the hot restart still has %d connections, whose requests cannot be read", n)
	default:
		return ""
	}
}

// renew closes the connection to the admin interface once a second: after a hot restart the Envoy of before would go on answering on it.
func (c *Client) renew(now time.Time) {
	if now.Sub(c.renewed) >= lookPace {
		c.reads.CloseIdleConnections()
		c.renewed = now
	}
}
