package envoy

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
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
	Guessed       bool     // the configuration could not be read, or chooses clusters at run time: more is counted than inbound traffic

	NodeID       string   // node.id, such as "sidecar~10.0.0.1~pod.namespace~…" for Istio
	NodeCluster  string   // node.cluster
	MetadataKeys []string // top-level keys of the node's metadata, sorted, such as "ISTIO_VERSION"
	Listeners    []string // names of the active listeners, sorted, such as "virtualInbound"
}

// Describe asks Envoy who it is and which traffic is inbound, and prepares [Client.Sample]. Call it again after a reconnect.
// It costs Envoy a few milliseconds, tens of them where the configuration is large.
// An error carries its kind (see [FailureOf]); the description then holds what was read before it.
func (c *Client) Describe(ctx context.Context) (Description, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, _, err := c.describe(ctx)
	return d, err
}

func (c *Client) describe(ctx context.Context) (Description, time.Duration, error) {
	var d Description
	info := new(adminv3.ServerInfo)
	took, err := c.get(ctx, "/server_info", func(body io.Reader) error { return readServerInfo(body, info) })
	if err != nil {
		return d, took, err
	}
	d.fill(info)
	v, more, err := c.discover(ctx, &d.Listeners)
	took += more
	if err != nil {
		return d, took, err
	}
	if v.loaded != "" {
		d.Epoch = fmt.Sprintf("%s#%d", v.loaded, info.GetCommandLineOptions().GetRestartEpoch())
	}
	d.InboundPorts, d.UpstreamPorts, d.Directed, d.Guessed = v.inboundPorts, v.upstreamPorts, v.directed, v.guessed
	c.view, c.stale = v, false
	c.total.allowance = allowance{} // what was read belongs to another view
	return d, took, nil
}

func readServerInfo(body io.Reader, info *adminv3.ServerInfo) error {
	raw, err := io.ReadAll(io.LimitReader(body, maxInfo+1))
	if err != nil {
		return err
	}
	if len(raw) > maxInfo {
		return errTooLarge
	}
	if err := tolerant.Unmarshal(raw, info); err != nil {
		return err
	}
	if info.GetVersion() == "" {
		return fmt.Errorf("no version in the reply")
	}
	return nil
}

// maxInfo bounds /server_info, which carries the whole node metadata: 124 KB was seen under Istio.
const maxInfo = 2 << 20

func (d *Description) fill(info *adminv3.ServerInfo) {
	d.Version = info.GetVersion()
	if parts := strings.Split(info.GetVersion(), "/"); len(parts) > 1 && parts[1] != "" {
		d.Version = parts[1]
	}
	options := info.GetCommandLineOptions()
	d.State = info.GetState().String()
	d.Gradual = options.GetDrainStrategy() == adminv3.CommandLineOptions_Gradual
	d.DrainTime = options.GetDrainTime().AsDuration()
	d.Uptime = info.GetUptimeCurrentEpoch().AsDuration()
	d.NodeID, d.NodeCluster = info.GetNode().GetId(), info.GetNode().GetCluster()
	d.MetadataKeys = slices.Sorted(maps.Keys(info.GetNode().GetMetadata().GetFields()))
}

// discovery collects what several admin calls say about one configuration.
type discovery struct {
	c    *Client
	ctx  context.Context //nolint:containedctx // lives for one Describe
	took time.Duration
	view *view

	lds       bool // listeners come by LDS
	listeners []served
	bound     map[string]uint16 // ports by listener name
}

func (c *Client) discover(ctx context.Context, names *[]string) (*view, time.Duration, error) {
	d := &discovery{c: c, ctx: ctx, view: new(view), bound: map[string]uint16{}}
	for _, step := range []func() error{d.readActive, d.readLoaded, d.readListeners, d.readRoutes, d.choose} {
		if err := step(); err != nil {
			return nil, d.took, err
		}
	}
	*names = slices.Sorted(maps.Keys(d.bound))
	c.looks = look{sum: d.view.sum, at: time.Now()}
	return d.view, d.took, nil
}

func (d *discovery) get(path string, read func(io.Reader) error) error {
	took, err := d.c.get(d.ctx, path, read)
	d.took += took
	return err
}

// allowed turns "this path is not there" into no error: allow_paths answers 403, an empty dump 404 in some releases.
func allowed(err error) error {
	if e, ok := err.(*Error); ok && (e.Code == http.StatusForbidden || e.Code == http.StatusNotFound) { //nolint:errorlint // get returns *Error itself
		return nil
	}
	return err
}

func (d *discovery) readActive() error {
	sum, err := d.c.readActive(d.ctx, &d.took, func(l *adminv3.ListenerStatus) {
		d.bound[l.GetName()] = uint16(l.GetLocalAddress().GetSocketAddress().GetPortValue()) //nolint:gosec // a port
	})
	d.view.sum = sum
	return allowed(err)
}

var listenersSeed = maphash.MakeSeed()

// readActive reads /listeners and returns a checksum that changes when listeners come or go.
func (c *Client) readActive(ctx context.Context, took *time.Duration, each func(*adminv3.ListenerStatus)) (uint64, error) {
	var hash maphash.Hash
	hash.SetSeed(listenersSeed)
	cost, err := c.get(ctx, "/listeners?format=json", func(body io.Reader) error {
		return readMessages(io.TeeReader(body, &hash), "listener_statuses", func(l *adminv3.ListenerStatus) error {
			each(l)
			return nil
		})
	})
	*took += cost
	return hash.Sum64(), err
}

// readLoaded learns when the bootstrap was loaded and whether listeners come by LDS: the name filter keeps everything but the bootstrap out of the dump, the mask everything but these two.
func (d *discovery) readLoaded() error {
	return allowed(d.get("/config_dump?mask=last_updated,bootstrap.dynamic_resources.lds_config&name_regex="+url.QueryEscape("^$"), func(body io.Reader) error {
		return readConfigs(body, func(r struct {
			Loaded    string `json:"last_updated"`
			Bootstrap struct {
				Dynamic struct {
					LDS *struct{} `json:"lds_config"`
				} `json:"dynamic_resources"`
			} `json:"bootstrap"`
		},
		) {
			if d.view.loaded == "" { // the bootstrap comes first
				d.view.loaded = r.Loaded
			}
			d.lds = d.lds || r.Bootstrap.Dynamic.LDS != nil
		})
	}))
}

func (d *discovery) readListeners() error {
	err := d.get("/config_dump?resource=static_listeners", func(body io.Reader) error {
		return readConfigs(body, func(r struct {
			Listener *listener `json:"listener"`
		},
		) {
			d.add(r.Listener, true)
		})
	})
	if err := allowed(err); err != nil {
		return err
	}
	d.view.guessed = err != nil
	return allowed(d.get("/config_dump?resource=dynamic_listeners", func(body io.Reader) error {
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
	if pattern := url.QueryEscape("^(" + strings.Join(quoted(slices.Compact(wanted)), "|") + ")$"); len(pattern) < maxQuery {
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
	return allowed(err)
}
