package roles

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func portText(port int32) string { return strconv.Itoa(int(port)) }

// led returns the port of the container to which the proxy's inbound traffic goes.
func led(c candidate, e Envoy) (port int32, cluster string) {
	if e.Config == nil {
		return 0, ""
	}
	for _, p := range c.Ports {
		if name, is := e.Config.Leads[p.ContainerPort]; is {
			return p.ContainerPort, name
		}
	}
	return 0, ""
}

// metricsNames are the names and metricsNumbers the numbers of ports that nobody but monitoring calls.
func metricsPort(p corev1.ContainerPort) bool {
	w := words(p.Name)
	return slices.ContainsFunc(w, func(word string) bool {
		return slices.Contains([]string{"metrics", "prometheus", "prom", "monitoring", "exporter", "health", "healthz", "probe", "probes", "profiling", "pprof", "debug", "livenessz", "liveness", "readiness", "startup", "diagnostics", "jmx", "logs"}, word)
	})
}

func onlyMetrics(c candidate) bool {
	return len(c.Ports) > 0 && !slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return !metricsPort(p) })
}

// serviceSelects reports whether a Service beside the pod leads to one of the container's ports.
func (in *Input) serviceSelects(c candidate) bool { return in.servicePort(c) > 0 }

func (in *Input) servicePort(c candidate) int32 {
	for _, target := range in.TargetPorts {
		for _, p := range c.Ports {
			if target.StrVal != "" && target.StrVal == p.Name || target.StrVal == "" && target.IntVal == p.ContainerPort {
				return p.ContainerPort
			}
		}
	}
	return 0
}

// servingPort is where a container serves: where the proxy leads, else where a Service leads, else its first port that is not
// for monitoring. 0: its manifest names none.
func (in *Input) servingPort(c candidate, e Envoy) int32 {
	if port, _ := led(c, e); port > 0 {
		return port
	}
	if port := in.servicePort(c); port > 0 {
		return port
	}
	for _, p := range c.Ports {
		if !metricsPort(p) && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
			return p.ContainerPort
		}
	}
	if len(c.Ports) > 0 {
		return c.Ports[0].ContainerPort
	}
	return 0
}

// quiets are the signals with which servers of jobs are told to take no more of them. Sources: github.com/sidekiq/sidekiq/wiki/Signals
// (TSTP; USR1 before version 5), github.com/resque/resque (USR2).
var quiets = []string{"-TSTP", "-SIGTSTP", "-20", "TSTP"}

// Quiets reports whether a command tells a process to take no more work, without ending it.
func Quiets(line []string) bool {
	return len(line) > 1 && (line[0] == "kill" || line[0] == "pkill" || line[0] == "killall") &&
		slices.ContainsFunc(line[1:], func(word string) bool { return slices.Contains(quiets, strings.ToUpper(word)) }) ||
		slices.Contains(line, "sidekiqctl") && slices.Contains(line, "quiet")
}

// workWords are words of names with which people call what fetches its work by itself.
var workWords = []string{"worker", "workers", "consumer", "consumers", "subscriber", "cron", "crond", "scheduler", "sidekiq", "celery", "resque", "queue", "loadgenerator", "controller", "operator", "triggerer", "taskmanager"}

// serveWords are words of names with which people call what answers requests.
var serveWords = []string{"web", "www", "app", "api", "server", "frontend", "backend", "http", "httpd", "nginx", "apache", "main"}

// work decides between serving and worker for a container that nothing has decided yet; undecided is how many there are.
func (in *Input) work(c candidate, e Envoy, undecided int) (Role, Confidence, string) {
	if in.Ends() && !c.native {
		return Worker, High, "the pod ends when its work is done, and this is its work"
	}
	if c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Exec != nil &&
		slices.ContainsFunc(Commands(c.Lifecycle.PreStop.Exec.Command), Quiets) {
		return Worker, High, "its preStop hook tells it to take no more work"
	}
	if undecided > 1 && runsPHP(c) {
		return Dependency, High, "php-fpm answers a web server beside it, not the proxy"
	}
	byName, port := named(c), in.servingPort(c, e)
	if service := in.servicePort(c); service > 0 && byName == "" {
		return Serving, High, "a Service leads to its port " + portText(service)
	} else if service > 0 {
		return Serving, Likely, "it is called " + byName + ", but a Service leads to its port " + portText(service)
	}
	if onlyMetrics(c) {
		port = 0
	}
	static := e.Config != nil && !e.Config.Dynamic
	switch {
	case byName != "" && port == 0:
		return Worker, Likely, "it is called " + byName + " and declares no port where it could serve"
	case byName != "" && static && len(e.Config.Leads) > 0:
		return Worker, Likely, "it is called " + byName + " and Envoy's configuration leads elsewhere"
	case byName != "":
		return Serving, Unsure, fmt.Sprintf("it is called %s, which fetches its work, and declares port %d, where it may serve", byName, port)
	case port > 0 && static && !e.Config.Inbound && e.Config.Outbound:
		return Serving, Unsure, fmt.Sprintf("it declares port %d, but Envoy's configuration leads nobody to it and no Service does", port)
	case port > 0 && static && len(e.Config.Leads) > 0:
		return Serving, Likely, fmt.Sprintf("it declares port %d, although Envoy's configuration leads elsewhere", port)
	case port > 0 && (probedOn(c, port) || e.Found()):
		return Serving, High, "it declares port " + portText(port)
	case port > 0:
		return Serving, Likely, "it declares port " + portText(port) + ", and nothing says who calls it"
	case undecided == 1 && probed(c):
		return Serving, Likely, "it is probed over the network and nothing beside it could serve"
	case undecided == 1:
		return Serving, Likely, "it is the only container here that could serve"
	}
	for _, word := range words(c.Name) {
		if slices.Contains(serveWords, word) {
			return Serving, Likely, "it is called " + word
		}
	}
	return Serving, Unsure, "neither a port, nor a command, nor an image says whether it serves, fetches its work or helps another container"
}

// probedOn reports whether kubelet asks that port whether the container is ready.
func probedOn(c candidate, port int32) bool {
	p := c.ReadinessProbe
	is := func(asked intstr.IntOrString) bool {
		return asked.StrVal == "" && asked.IntVal == port || asked.StrVal != "" && slices.ContainsFunc(c.Ports, func(one corev1.ContainerPort) bool {
			return one.Name == asked.StrVal && one.ContainerPort == port
		})
	}
	return p != nil && (p.HTTPGet != nil && is(p.HTTPGet.Port) || p.TCPSocket != nil && is(p.TCPSocket.Port) || p.GRPC != nil && p.GRPC.Port == port)
}

func runsPHP(c candidate) bool {
	return c.image.name == "php-fpm" || slices.ContainsFunc(c.commands, func(line []string) bool { return strings.HasPrefix(line[0], "php-fpm") }) ||
		c.image.name == "php" && strings.Contains(c.Image, "fpm")
}

// named returns the word of a container's name, image or command that says that it fetches its work.
func named(c candidate) string {
	all := slices.Concat(words(c.Name), c.image.word)
	for _, line := range c.commands {
		for _, word := range line[:min(len(line), 6)] {
			if len(word) < 60 {
				all = append(all, words(word)...)
			}
		}
	}
	for _, word := range all {
		if slices.Contains(workWords, word) {
			return word
		}
	}
	return ""
}

// probed reports whether kubelet asks the container over the network.
func probed(c candidate) bool {
	for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
		if p != nil && (p.HTTPGet != nil || p.GRPC != nil || p.TCPSocket != nil) {
			return true
		}
	}
	return false
}
