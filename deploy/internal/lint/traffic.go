package lint

import (
	"path"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// servicePorts returns the ports of an object that is a Service and selects the workload's pods; targetPort is filled in.
func servicePorts(w *manifest.Workload, o *manifest.Object) []corev1.ServicePort {
	var service corev1.Service
	if o.Kind != "Service" || o.Namespace != w.Namespace || o.Into(&service) != nil || len(service.Spec.Selector) == 0 ||
		!labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(w.Pod.Labels)) {
		return nil
	}
	for i := range service.Spec.Ports {
		if port := &service.Spec.Ports[i]; port.TargetPort == (intstr.IntOrString{}) {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
	return service.Spec.Ports
}

// observed are names of ports that monitoring and people call, not users: nobody misses an answer of theirs in a rollout.
var observed = regexp.MustCompile(`(?i)metric|prom|monitor|debug|pprof|profil|admin|health|probe|stats`)

// observing are the names of Services for monitoring.
var observing = regexp.MustCompile(`(?i)(^|-)(metrics|monitoring|prometheus-exporter|exporter)$`)

// dataPorts are the well-known ports of databases, caches, queues and coordinators. Their clients hold connections, or their
// members elect another: a pause before SIGTERM is not what helps them.
var dataPorts = map[int32]bool{
	389: true, 636: true, 1433: true, 1521: true, 2181: true, 2379: true, 3306: true, 4222: true, 5432: true, 5672: true,
	6379: true, 7687: true, 9042: true, 9092: true, 9200: true, 11211: true, 26257: true, 26379: true, 27017: true,
}

// serving returns the containers to which a balanced Service sends requests of users: not headless ones, whose clients choose.
// A Service's port that no container declares belongs to the only app that there is. Where no Service is among the files, an app
// that declares ports for users is taken to serve.
func (s *set) serving(p *pod) []*corev1.Container { return s.served(p, false) }

// served does the same; data counts the ports of databases too.
func (s *set) served(p *pod, data bool) (out []*corev1.Container) {
	if !slices.Contains([]string{"Deployment", "DeploymentConfig", "ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Rollout", "CloneSet"}, p.Kind) || p.job {
		return nil // nobody rolls them out
	}
	apps := slices.DeleteFunc(p.lasting(), func(c *corev1.Container) bool {
		return !p.is(c, roles.Serving, roles.Worker) || idle(c) || loops.MatchString(path.Base(c.Image))
	})
	selected := false
	for _, o := range s.objects {
		ports := servicePorts(p.Workload, o)
		selected = selected || len(ports) > 0
		if o.Spec()["clusterIP"] == "None" || observing.MatchString(o.Name) {
			continue
		}
		for _, port := range ports {
			for _, c := range target(p, port, apps, data) {
				if !slices.Contains(out, c) {
					out = append(out, c)
				}
			}
		}
	}
	if !selected {
		return slices.DeleteFunc(apps, func(c *corev1.Container) bool {
			return !p.is(c, roles.Serving) || !forUsers(c, data) || alone.MatchString(c.Name)
		})
	}
	return out
}

// loops are images of programs that only compare and mend, or lead their own workers: whatever their port is called, it tells figures
// and health, and who else calls it comes back by itself. Sources: nightlies.apache.org/flink (a JobManager that is gone is found again),
// kubernetes-sigs.github.io/external-dns (port 7979), github.com/kubernetes/autoscaler (8085), github.com/kubernetes-sigs/descheduler,
// velero.io, kured.dev, github.com/stakater/Reloader, cert-manager.io/docs/concepts/ca-injector.
var loops = regexp.MustCompile(`^(external-dns|cluster-autoscaler[a-z0-9-]*|descheduler|velero|kured|reloader|cert-manager-cainjector|flink)($|[:@])`)

// alone are words in the names of programs that serve nobody but themselves: their ports are for monitoring, whatever they are
// called.
var alone = regexp.MustCompile(`(?i)(^|[-_.])(controller|operator|worker|scheduler|agent)($|[-_.])`)

// forUsers reports whether a container declares a port that is not monitoring's, nor, unless data says so, a database's.
func forUsers(c *corev1.Container, data bool) bool {
	return slices.ContainsFunc(c.Ports, func(port corev1.ContainerPort) bool {
		return !observed.MatchString(port.Name) && (data || !dataPorts[port.ContainerPort])
	})
}

// target returns the containers that answer on a port of a Service: those behind the proxy where the port is the proxy's.
func target(p *pod, port corev1.ServicePort, apps []*corev1.Container, data bool) []*corev1.Container {
	if observed.MatchString(port.Name) {
		return nil
	}
	for _, c := range p.lasting() {
		for _, own := range c.Ports {
			if port.TargetPort.StrVal != own.Name && port.TargetPort.StrVal != "" || port.TargetPort.StrVal == "" && port.TargetPort.IntVal != own.ContainerPort {
				continue
			}
			switch {
			case observed.MatchString(own.Name) || dataPorts[own.ContainerPort] && !data:
				return nil
			case p.is(c, roles.Proxy) && len(apps) > 0:
				return apps
			case idle(c) || p.is(c, roles.Agent, roles.Helper) || loops.MatchString(path.Base(c.Image)):
				return nil
			}
			return []*corev1.Container{c}
		}
	}
	if len(apps) == 0 && p.gateway() {
		return []*corev1.Container{p.Named(p.proxy.Container)}
	}
	if len(apps) == 1 && (data || !dataPorts[port.TargetPort.IntVal]) {
		return apps
	}
	return nil
}

// idle reports whether a container only waits to be entered, as test clients do.
func idle(c *corev1.Container) bool {
	line := slices.Concat(c.Command, c.Args)
	if len(line) == 0 {
		return false
	}
	switch path.Base(line[0]) {
	case "sleep", "pause":
		return true
	case "tail":
		return slices.Contains(line, "-f")
	}
	script, is := scriptOf(line)
	return is && script.onlyWaits()
}
