package envoy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Description is what an Envoy says about itself.
type Description struct {
	Version   string        // "1.40.0"
	State     string        // "LIVE", "DRAINING", "PRE_INITIALIZING" or "INITIALIZING"
	Gradual   bool          // the drain strategy is gradual: how many responses say "Connection: close" grows over DrainTime
	DrainTime time.Duration // --drain-time-s
	Uptime    time.Duration // of this process at the time of the call, in whole seconds

	// Epoch is the same for the same Envoy process only: the moment its configuration was loaded, in milliseconds, and its restart epoch. It is "" when /config_dump is not allowed.
	Epoch string

	InboundPorts  []uint16 // TCP ports where peers reach us, sorted; without admin, health, metrics and outbound
	UpstreamPorts []uint16 // ports on this machine that inbound traffic is sent to (the app), sorted
	Directed      bool     // some listener says INBOUND; otherwise a drain must name all directions
	HTTPOnly      bool     // all inbound traffic is HTTP: a client's connection brings a request
	Guessed       bool     // the configuration could not be read, or chooses clusters at run time: more is counted than inbound traffic

	NodeID       string   // node.id, such as "sidecar~10.0.0.1~pod.namespace~…" for Istio
	NodeCluster  string   // node.cluster
	MetadataKeys []string // top-level keys of the node's metadata, sorted, such as "ISTIO_VERSION"
	Listeners    []string // names of the active listeners, sorted, such as "virtualInbound"
}

// Describe asks Envoy who it is and which traffic is inbound, and prepares [Client.Sample]. Call it again after a reconnect.
// It costs Envoy a few milliseconds, tens of them where the configuration is large; a description of this very second is not asked for again.
// Where only a part of the configuration can be read, the description holds that part, and readings are coarser. An error means that
// Envoy does not say who it is; it carries its kind (see [FailureOf]).
func (c *Client) Describe(ctx context.Context) (Description, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.view.Version == "" || now.Sub(c.view.at) >= lookPace {
		c.beginLook(now)
		if !c.look.wait(ctx, 0) {
			return Description{}, failed("GET /config_dump", ctx.Err())
		}
		if err := c.endLook(); err != nil {
			return Description{}, err
		}
	}
	return c.view.Description, nil
}

// beginLook begins to read the configuration, unless somebody is at it.
func (c *Client) beginLook(now time.Time) {
	if c.look != nil {
		return
	}
	moved := c.moved
	c.look = start(func(ctx context.Context) (*view, error) {
		v, err := c.discover(ctx)
		v.at, v.moved = now, moved
		return v, err
	})
}

// endLook takes what a look found. Of one that failed altogether nothing is taken.
func (c *Client) endLook() error {
	look := c.look
	c.look = nil
	v := look.value
	v.took = look.took
	if look.err != nil {
		c.view.at, c.view.took = v.at, v.took // tried
		return look.err
	}
	old := c.view
	c.news = c.news || old.Version != "" && !reflect.DeepEqual(old.lasting(), v.lasting())
	c.view = v
	if !reflect.DeepEqual(old.rule, v.rule) || !slices.Equal(old.stats, v.stats) { // what was read belongs to another view
		c.whole.known, c.whole.at = false, time.Time{}
		c.total.allowance = allowance{}
	}
	return nil
}

// lasting is the description without what changes by itself.
func (d Description) lasting() Description {
	d.Uptime, d.State = 0, ""
	return d
}

// discover reads who Envoy is and its configuration. Without an answer to the first there is no description; all else may be missing.
func (c *Client) discover(ctx context.Context) (*view, error) {
	v := newView()
	var info serverInfo
	if _, err := c.get(ctx, "/server_info", info.read); err != nil {
		return v, err
	}
	v.fill(&info)
	d := &discovery{c: c, ctx: ctx, view: v, bound: map[string]uint16{}, nodeID: v.NodeID, members: map[string]bool{}}
	d.note(d.readActive())
	d.note(d.readLoaded())
	if err := d.readListeners(); err != nil {
		d.unread = true
		d.note(err)
	}
	d.note(d.readRoutes())
	d.note(d.choose())
	if d.gone != nil {
		return v, d.gone
	}
	if v.loaded != "" {
		v.Epoch = fmt.Sprintf("%s#%d", v.loaded, info.Options.RestartEpoch)
	}
	v.HTTPOnly = !v.blind && !v.Guessed
	v.epoch = info.Options.RestartEpoch
	v.parentShutdown = time.Duration(info.Options.ParentShutdown)
	v.Listeners = slices.Sorted(maps.Keys(d.bound))
	return v, nil
}

// note remembers what could not be read: it costs precision, unless Envoy is gone.
func (d *discovery) note(err error) {
	if err == nil {
		return
	}
	if FailureOf(err) == Refused {
		d.gone = err
	}
	d.view.missing = append(d.view.missing, err.Error())
}

// serverInfo is what is read of /server_info. The reply has some 100 KB: it lists every extension.
type serverInfo struct {
	Version string  `json:"version"`
	State   string  `json:"state"`
	Uptime  seconds `json:"uptime_current_epoch"`
	Options struct {
		DrainStrategy  string  `json:"drain_strategy"`
		DrainTime      seconds `json:"drain_time"`
		ParentShutdown seconds `json:"parent_shutdown_time"`
		RestartEpoch   uint32  `json:"restart_epoch"`
	} `json:"command_line_options"`
	Node struct {
		ID       string                    `json:"id"`
		Cluster  string                    `json:"cluster"`
		Metadata map[string]jsontext.Value `json:"metadata"`
	} `json:"node"`
}

// seconds is a duration as Envoy writes it: "600s".
type seconds time.Duration

func (s *seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*s = seconds(d)
	return err
}

// maxInfo bounds /server_info, which carries the whole node metadata: 124 KB was seen under Istio.
const maxInfo = 2 << 20

func (i *serverInfo) read(body io.Reader) error {
	s := newStream(body, maxInfo)
	if err := s.value(i); err != nil {
		return err
	}
	if i.Version == "" {
		return fmt.Errorf("no version in the reply")
	}
	return s.end()
}

func (d *Description) fill(info *serverInfo) {
	d.Version = info.Version
	if parts := strings.Split(info.Version, "/"); len(parts) > 1 && parts[1] != "" {
		d.Version = parts[1]
	}
	d.State = cmp.Or(info.State, "LIVE")                  // the value of an enum that a reply may leave out,
	d.Gradual = info.Options.DrainStrategy != "Immediate" // and here
	d.DrainTime, d.Uptime = time.Duration(info.Options.DrainTime), time.Duration(info.Uptime)
	d.NodeID, d.NodeCluster = info.Node.ID, info.Node.Cluster
	d.MetadataKeys = slices.Sorted(maps.Keys(info.Node.Metadata))
}

// discovery collects what several admin calls say about one configuration.
type discovery struct {
	c    *Client
	ctx  context.Context //nolint:containedctx // lives for one look
	view *view
	gone error // Envoy refused to be asked

	nodeID    string
	lds, cds  bool // listeners and clusters come from a control plane
	unread    bool // the listeners could not be read
	listeners []served
	bound     map[string]uint16 // ports by listener name
	errands   []string          // clusters that the bootstrap names for Envoy's own calls
	members   map[string]bool   // clusters that other clusters send their traffic to
	heads     []clusterHead     // clusters that inbound traffic may go to
	known     known
}

func (d *discovery) get(path string, read func(io.Reader) error) error {
	_, err := d.c.ask(d.ctx, thinking, path, read)
	return allowed(err)
}

// allowed turns "this path is not there" into no error: an empty dump is 404 in some releases.
func allowed(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Code == http.StatusNotFound {
		return nil
	}
	return err
}

func (d *discovery) readActive() error {
	return d.get("/listeners?format=json", func(body io.Reader) error {
		return readArray(body, "listener_statuses", func(l struct {
			Name  string  `json:"name"`
			Local address `json:"local_address"`
		},
		) {
			d.bound[l.Name] = l.Local.Socket.Port
		})
	})
}

// readLoaded learns when the bootstrap was loaded, whether listeners and clusters come from a control plane, and whom Envoy calls for
// itself: the name filter keeps everything but the bootstrap out of the dump, the mask its static resources.
func (d *discovery) readLoaded() error {
	const parts = "last_updated,bootstrap.dynamic_resources,bootstrap.stats_sinks,bootstrap.hds_config,bootstrap.tracing,bootstrap.cluster_manager,bootstrap.stats_config.stats_matcher"
	return d.get("/config_dump?mask="+parts+"&name_regex="+inQuery("^$"), func(body io.Reader) error {
		return readConfigs(body, func(r struct {
			Loaded    string `json:"last_updated"`
			Bootstrap struct {
				Dynamic struct {
					LDS clusterNames `json:"lds_config"`
					CDS clusterNames `json:"cds_config"`
					ADS clusterNames `json:"ads_config"`
				} `json:"dynamic_resources"`
				Sinks   clusterNames `json:"stats_sinks"`
				HDS     clusterNames `json:"hds_config"`
				Tracing clusterNames `json:"tracing"`
				Manager clusterNames `json:"cluster_manager"`
				Stats   struct {
					Matcher *statsMatcher `json:"stats_matcher"`
				} `json:"stats_config"`
			} `json:"bootstrap"`
		},
		) {
			b := &r.Bootstrap
			if d.view.loaded == "" && r.Loaded != "" { // the bootstrap comes first
				d.view.loaded, d.view.pending = r.Loaded, b.Stats.Matcher.shows(pendingBytes)
			}
			d.lds, d.cds = d.lds || b.Dynamic.LDS.there, d.cds || b.Dynamic.CDS.there
			for _, names := range []clusterNames{b.Dynamic.LDS, b.Dynamic.CDS, b.Dynamic.ADS, b.Sinks, b.HDS, b.Tracing, b.Manager} {
				d.errands = append(d.errands, names.all()...)
			}
		})
	})
}

// readListeners asks for the listeners by the names of those that are bound: without them Envoy copies every cluster that it has for
// each such question (44 ms for 5,000 clusters of 20 KB, 3 ms with them, measured on 1.40.0). One without a name is bound under another.
func (d *discovery) readListeners() error {
	names := ""
	if pattern := anyOf(append(slices.Sorted(maps.Keys(d.bound)), "")); len(d.bound) > 0 && len(pattern) < maxQuery {
		names = "&name_regex=" + pattern
	}
	err := d.get("/config_dump?resource=static_listeners"+names, func(body io.Reader) error {
		return readConfigs(body, func(r struct {
			Listener *listener `json:"listener"`
		},
		) {
			d.add(r.Listener, true)
		})
	})
	return errors.Join(err, d.get("/config_dump?resource=dynamic_listeners"+names, func(body io.Reader) error {
		return readConfigs(body, func(r struct {
			Active struct {
				Listener *listener `json:"listener"`
			} `json:"active_state"`
		},
		) {
			d.add(r.Active.Listener, false)
		})
	}))
}

func (d *discovery) add(l *listener, static bool) {
	if l == nil {
		return
	}
	l.static = static
	s := served{listener: l, services: l.services()}
	l.Chains, l.DefaultChain = nil, nil // the large part is not needed any more
	d.listeners = append(d.listeners, s)
}

// readRoutes looks up the routes that listeners take from RDS.
func (d *discovery) readRoutes() error {
	var wanted []string
	for _, l := range d.candidates() {
		for _, s := range l.services {
			if s.routes != "" {
				wanted = append(wanted, s.routes)
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	slices.Sort(wanted)
	routes := make(map[string]*routeConfig)
	path := "/config_dump?resource=dynamic_route_configs"
	if pattern := anyOf(slices.Compact(wanted)); len(pattern) < maxQuery {
		path += "&name_regex=" + pattern
	}
	err := d.get(path, func(body io.Reader) error {
		return readConfigs(body, func(r struct {
			Routes *routeConfig `json:"route_config"`
		},
		) {
			if r.Routes != nil {
				routes[r.Routes.Name] = r.Routes
			}
		})
	})
	for _, l := range d.listeners {
		for i := range l.services {
			l.services[i].resolve(routes)
		}
	}
	return err
}
