package inject

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// Options are what the user may decide.
type Options struct {
	Image        string
	Shape        string   // auto, native or classic
	Proxy        string   // auto, none, istio, consul, kuma or a container's name
	App          string   // the container that serves; "" is what the roles say
	EnvoyAdmin   string   // "" is what was found
	AppSource    []string // --app-source of the agent
	Preset       string
	Longest      time.Duration         // what the longest request or stream takes; 0: nobody says
	Grace        time.Duration         // 0: as the pod has it, or what the presets need
	Port         int32                 // of the agent; 0: 9909, or the next that is free
	ReplaceHooks []string              // containers whose own hook is given up
	AgentArgs    []string              // further arguments of the agent
	Token        string                // "" makes one; "-" goes without
	Report       string                // URL that the agent reports its verdicts to; "": nowhere
	ReportCA     string                // PEM of the authority behind that server's certificate; "": one that all trust
	Roles        map[string]roles.Role // by container, the user's word
	Choice       Choice                // which workloads
	Said         []string              // names of settings that the user gave by flags: they outrank annotations
	RefuseImage  bool                  // annotations may not name the agent's image
	Lenient      bool                  // annotations that cannot be read are told, and have no effect, instead of being an error
	KeepGoing    bool                  // a document that cannot be injected stays as it is and the others go on
	Beside       []*manifest.Object    // all objects of all files, this one's too; nil: those of the file alone
}

// Plan is everything that was decided for one pod.
type Plan struct {
	Proxy       Proxy
	Roles       *roles.Pod
	Native      bool
	Classic     bool    // Istio's sidecar is a regular container
	Stub        bool    // and that container is written into the pod, for Istio to fill
	Restricted  bool    // with what the restricted level of Pod Security asks
	Assumed     bool    // nothing says that Istio's sidecar will be a native one
	Exclude     []int32 // inbound ports that the mesh is to leave alone
	Job         bool    // the pods end when their work is done
	Image       string
	Args        []string
	Grace       time.Duration
	HostNetwork bool
	Port        int32
	ExecProbe   bool // Istio may point an httpGet startup probe at a port that is not there yet
	Wait        bool // the agent's start waits for the proxy: containers behind it then start after both
	Admin       string
	Token       string
	Report      string
	ReportCA    string
	User        int64 // of the agent; 0 is the pod's or the image's
	Mounts      []corev1.VolumeMount
	Hooks       []hook
	Probes      map[string][]execProbe // by container: those that are asked inside it
	Binary      bool                   // containers need the agent's binary, for a hook or a probe
	StartProbe  bool                   // the proxy gets a startup probe
	ReadyProbe  bool                   // the proxy gets a readiness probe
	Notes       []string               // what a person should know, one sentence each
	HostPort    string                 // of them, what nobody but a person can know of the agent's port on the node; said at admission too

	PodResources bool          // the pod has resources as a whole: its containers together may ask for no more
	Guaranteed   bool          // the pod's class, which the agent must not change
	Redirections []Redirection // of init containers that another injector wrote
}

// noEnvoy is why a pod is left alone unless the user asks for more.
const noEnvoy = "no Envoy in it: no container's image, command or ports are one, and no label or annotation of pod or namespace asks a mesh for one; " +
	"--proxy=NAME (its container), --proxy=istio (added at admission) or --proxy=none (there is none: clients are counted at the pod's own ports) injects it all the same"

// NewPlan decides what a pod gets. Where it is left alone there is no plan, and the text says why. The error joins everything that
// stands against it.
func NewPlan(w *manifest.Workload, objects []*manifest.Object, o Options) (*Plan, string, error) {
	spec := &w.Pod.Spec
	if len(spec.Containers) == 0 {
		return nil, "", errors.New("the pod has no containers")
	}
	for _, c := range w.Containers() {
		if w.Container(c.Name) == nil || c.Name == "" {
			return nil, "", errors.New("a container has no name of its own in the text (a merge key does not count)")
		}
	}
	found := w.Roles(objects, o.Proxy, o.said(w))
	switch {
	case windows(spec):
		return nil, "its pods are for Windows nodes, where the agent does not run", nil
	case found.Envoy.OptedOut != "":
		return nil, "no mesh adds a proxy to it: " + found.Envoy.OptedOut, nil
	case found.Envoy.Doubt != "":
		return nil, "", errors.New(found.Envoy.Doubt)
	case !found.Envoy.Found() && (o.Proxy == "" || o.Proxy == "auto"):
		return nil, noEnvoy, nil
	case !found.Envoy.Found() && o.Proxy != "none" && slices.ContainsFunc(objects, func(other *manifest.Object) bool {
		return other.Workload != nil && other.Workload.Named(o.Proxy) != nil
	}):
		return nil, "no container " + o.Proxy + " in it (--proxy)", nil
	}
	if len(found.Questions) > 0 {
		return nil, "", errors.New(strings.Join(found.Questions, "\n  "))
	}
	p := &Plan{
		Proxy: found.Envoy, Roles: found, Image: o.Image, Native: o.Shape != "classic",
		Job:         w.Job() || spec.RestartPolicy == corev1.RestartPolicyNever || spec.RestartPolicy == corev1.RestartPolicyOnFailure,
		HostNetwork: spec.HostNetwork, ExecProbe: found.Envoy.Mesh == "istio", Token: o.Token, Report: o.Report, ReportCA: o.ReportCA,
	}
	if p.Token == "-" {
		p.Token = ""
	}
	p.istioShape(w, objects, o)
	p.PodResources = spec.Resources != nil
	p.Guaranteed = p.guaranteed(w)
	for _, c := range found.Containers {
		if c.Confidence == roles.Likely && (c.Port == 0 || c.Role != roles.Serving) {
			p.note(fmt.Sprintf("container %s is taken for %s: %s; --role=%s=… says otherwise", c.Name, c.Role, c.Evidence, c.Name))
		}
	}
	if err := errors.Join(p.addPort(w, objects, o), p.addHooks(w, o)); err != nil {
		return nil, "", err
	}
	p.excluded(w, objects)
	p.redirect(w)
	p.admin(w, o)
	p.shape(w, o)
	if err := p.args(w, objects, o); err != nil {
		return nil, "", err
	}
	p.meshNotes(w, objects)
	if s := spec.SecurityContext; s != nil && s.RunAsUser != nil && (*s.RunAsUser == 1337 || *s.RunAsUser == 0) {
		p.User = 65532
	}
	return p, "", nil
}

func windows(spec *corev1.PodSpec) bool {
	return spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows)
}

// said adds --app to the roles that the user gave.
func (o *Options) said(w *manifest.Workload) map[string]roles.Role {
	if o.App == "" || w.Named(o.App) == nil || o.Roles[o.App] != "" {
		return o.Roles
	}
	said := map[string]roles.Role{o.App: roles.Serving}
	maps.Copy(said, o.Roles)
	return said
}

// shape decides where agent and proxy stand to each other.
func (p *Plan) shape(w *manifest.Workload, o Options) {
	first := w.Pod.Spec.Containers[0].Name
	p.Wait = !p.Native && p.Proxy.Where == roles.Regular && first == p.Proxy.Container && len(w.Pod.Spec.Containers) > 1
	proxy := w.Named(p.Proxy.Container)
	p.StartProbe = p.Native && p.Proxy.Where == roles.Native && proxy.StartupProbe == nil
	known := cmp.Or(o.EnvoyAdmin, p.Proxy.Admin) != "" // a pod whose admin is only assumed might never be ready
	p.ReadyProbe = known && proxy != nil && p.Proxy.Mesh == "" && !p.Job && !p.Wait && p.Proxy.Where == roles.Regular && proxy.StartupProbe == nil && proxy.ReadinessProbe == nil
}

// meshNotes says what mesh and neighbours have to do with the pod.
func (p *Plan) meshNotes(w *manifest.Workload, objects []*manifest.Object) {
	if p.redirectionFixed(w) && len(p.Redirections) == 0 {
		p.note(fmt.Sprintf("istio-init's -d is already written in this pod, so an annotation for port %d would come too late: kubelet's calls of it go through the proxy; inject the pod before Istio does, or add the port to -d", p.Port))
	}
	if by := w.Closed(objects, p.Port, AgentContainer); len(by) > 0 {
		p.note(fmt.Sprintf("NetworkPolicy %s closes port %d: kubelet reaches the agent all the same, monitoring does not; open the port in it for whoever scrapes /metrics", strings.Join(by, " and "), p.Port))
	}
	for _, o := range objects {
		if p.redirectionFixed(w) && len(p.Redirections) == 0 && w.MutualTLS(o, p.Port) == "STRICT" {
			p.note(fmt.Sprintf("PeerAuthentication %s is STRICT: plain calls of port %d are refused", o.Name, p.Port))
		}
	}
}

// admin decides where Envoy's admin is, and mounts its socket into the agent.
func (p *Plan) admin(w *manifest.Workload, o Options) {
	p.Admin = cmp.Or(o.EnvoyAdmin, p.Proxy.Admin)
	if p.Admin == "" && p.Proxy.Found() {
		p.Admin = defaultAdmin
		p.note("where Envoy's admin listens stands in none of these files: " + p.Admin + " is assumed; say --envoy-admin if it is another")
	}
	socket, isSocket := strings.CutPrefix(p.Admin, "unix://")
	if c := w.Named(p.Proxy.Container); isSocket && c != nil {
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(socket, strings.TrimSuffix(m.MountPath, "/")+"/") {
				p.Mounts = append(p.Mounts, corev1.VolumeMount{Name: m.Name, MountPath: m.MountPath})
			}
		}
	}
}

// OtherAdmin reports whether the agent must be told where Envoy's admin is.
func (p *Plan) OtherAdmin() bool { return p.Admin != "" && p.Admin != defaultAdmin }

func (p *Plan) note(text string) {
	if text != "" {
		p.Notes = append(p.Notes, text)
	}
}

// work are the containers whose end is the end of a Job's pod.
func (p *Plan) work() (names []string) {
	for _, h := range p.Hooks {
		if h.role == roles.Worker {
			names = append(names, h.Container)
		}
	}
	return names
}

// Shape says in words what the pod gets.
func (p *Plan) Shape() string {
	how := "regular container"
	if p.Native {
		how = "native sidecar"
	}
	var names []string
	for _, h := range p.Hooks {
		names = append(names, h.Container)
	}
	shape := "agent as a " + how + ", no hooks of others"
	if len(names) > 0 {
		shape = "agent as a " + how + ", hooks for " + strings.Join(names, ", ")
	}
	if !p.Job {
		return shape
	}
	return shape + ", " + cmp.Or(p.ender(), "ends the proxy and exits with "+strings.Join(p.work(), " and "))
}
