package inject

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/drain-agent/drain-agent/agent/budget"
	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
	"github.com/drain-agent/drain-agent/deploy/internal/roles"
)

// gauge is a server whose manifest shows that it says how many requests it holds: on the port where it serves, by the preset.
type gauge struct {
	preset string
	images []string // what image references end with; their own command is the server
	starts []string // what its command line begins with
	needs  string   // an argument without which it says nothing
	hides  []string // arguments and variables with which the page is not there, or not for everybody
}

// gauges are those servers. What needs a configuration file, such as LiteLLM's callbacks or nginx's stub_status, is not among them: no
// manifest shows it. Sources: docs.vllm.ai/en/latest/deployment/k8s.html and /cli/serve, github.com/sgl-project/sglang/pull/16976 (/v1/loads),
// huggingface.co/docs/text-generation-inference, github.com/ggml-org/llama.cpp/blob/master/docs/docker.md (--metrics).
var gauges = []gauge{
	{
		"vllm",
		[]string{"vllm-openai", "vllm-openai-rocm", "vllm-cpu-release-repo"},
		[]string{"vllm serve", "vllm.entrypoints.openai.api_server"},
		"",
		[]string{"--disable-log-stats", "--grpc", "--headless", "--uds", "--config"},
	},
	{"sglang", nil, []string{"sglang.launch_server", "sglang serve"}, "", []string{"--config", "--api-key", "--admin-api-key"}},
	{"tgi", []string{"text-generation-inference"}, []string{"text-generation-launcher"}, "", nil},
	{
		"llama-cpp",
		[]string{"llama.cpp:server"},
		[]string{"llama-server"},
		"--metrics",
		[]string{"--api-key", "--api-key-file", "--api-prefix", "LLAMA_API_KEY", "LLAMA_ARG_API_PREFIX"},
	},
}

// gaugeOf finds the program that the container runs among them, when nothing in its arguments speaks against its page on that port; asks
// is what does. A program that is only named in the command line is none, nor is one of several that a script runs.
func gaugeOf(c *corev1.Container, port int32) (preset, asks string) {
	line := program(slices.Concat(c.Command, c.Args))
	for _, g := range gauges {
		started := slices.ContainsFunc(g.starts, func(start string) bool { return strings.HasPrefix(strings.Join(line, " ")+" ", start+" ") })
		if !started && (len(c.Command) > 0 || !slices.ContainsFunc(g.images, func(image string) bool { return isImage(c.Image, image) })) {
			continue
		}
		if against := g.against(c, line, port); against != "" {
			return "", fmt.Sprintf("its gauge cannot be read at http://127.0.0.1:%d with %s", port, against)
		}
		if g.needs != "" && !slices.Contains(line, g.needs) {
			return "", "it says how much it holds only with " + g.needs + " among its arguments"
		}
		return g.preset, ""
	}
	return "", ""
}

// against is the argument or variable that takes the page away from http://127.0.0.1 and the port.
func (g *gauge) against(c *corev1.Container, line []string, port int32) string {
	for i, word := range line {
		flag, value, given := strings.Cut(word, "=")
		flag = strings.ReplaceAll(flag, "_", "-") // vLLM takes both
		if !given && i+1 < len(line) {
			value = line[i+1]
		}
		if slices.Contains(g.hides, flag) || strings.HasPrefix(flag, "--ssl-") || flag == "--port" && value != fmt.Sprint(port) {
			return flag // its value may be a secret
		}
	}
	for _, one := range c.Env {
		if slices.Contains(g.hides, one.Name) {
			return one.Name
		}
	}
	return ""
}

// program is the one command that an exec line runs, of Python's the module and its arguments; nil of a script with several.
func program(line []string) []string {
	if len(line) > 0 && strings.HasPrefix(line[0], "-") {
		return line // for the image's own command
	}
	commands := roles.Commands(line)
	if len(commands) != 1 {
		return nil
	}
	line = commands[0]
	if strings.HasPrefix(line[0], "python") {
		for i, word := range line[1:] {
			if word == "-m" {
				return line[i+2:]
			}
			if !strings.HasPrefix(word, "-") {
				break
			}
		}
	}
	return line
}

// isImage reports whether a reference names the image: its last segment, with a tag that begins so if a tag is named.
func isImage(reference, image string) bool {
	name, _, _ := strings.Cut(path.Base(strings.SplitN(reference, "@", 2)[0]), ":")
	return name == image || strings.Contains(image, ":") && strings.HasPrefix(path.Base(reference), image)
}

// withoutProxy is what the agent of a pod without an Envoy is told: the ports where clients come in and how each server says what it
// holds. Nothing else would see them, so what stands nowhere is asked, never guessed.
func (p *Plan) withoutProxy(w *manifest.Workload, o Options) (args, questions []string) {
	args = []string{"--proxy=" + budget.NoProxy}
	for _, h := range p.Hooks {
		if h.role != roles.Serving {
			continue
		}
		switch {
		case slices.ContainsFunc(o.AgentArgs, func(arg string) bool { return strings.HasPrefix(arg, "--watch="+h.Name+"=") }):
		case h.port > 0:
			args = append(args, fmt.Sprintf("--watch=%s=port:%d", h.Name, h.port))
		default:
			questions = append(questions, fmt.Sprintf("container %s declares no port where it serves: declare it (containerPort), or say --agent-arg=--watch=%s=port:N", h.Container, h.Name))
		}
		if slices.ContainsFunc(o.AppSource, func(source string) bool { return sourceOf(source) == h.Name }) {
			continue
		}
		preset, asks := gaugeOf(w.Named(h.Container), h.port)
		switch {
		case preset != "" && h.port > 0:
			source := fmt.Sprintf("%s=preset:%s@http://127.0.0.1:%d", h.Name, preset, h.port)
			args = append(args, "--app-source="+source)
			p.note(fmt.Sprintf("container %s is counted by its own gauge: --app-source=%s", h.Container, source))
		case asks != "":
			questions = append(questions, fmt.Sprintf("container %s: %s: change that, or say --app-source=%s=… (docs/how-to/what-my-server-holds.md)", h.Container, asks, h.Name))
		default:
			questions = append(questions, fmt.Sprintf("container %s: nothing says how many requests it holds, and there is no Envoy that would: say --app-source=%s=… (docs/how-to/what-my-server-holds.md); "+
				"socket:PORT counts its clients' connections, none nothing", h.Container, h.Name))
		}
	}
	return args, questions
}

// sourceOf is the container that an app source counts for; without a name it is app.
func sourceOf(source string) string {
	if name, _, named := strings.Cut(source, "="); named && !strings.Contains(name, ":") {
		return name
	}
	return budget.AppName
}

// probed is how many probes a second open a connection where clients come in: those of kubelet that go on while a pod stops.
func (p *Plan) probed(w *manifest.Workload) (rate float64) {
	for _, h := range p.Hooks {
		c := w.Named(h.Container)
		probe := c.ReadinessProbe
		if h.role != roles.Serving || probe == nil {
			continue
		}
		port := probePort(c, probe)
		if probe.TCPSocket != nil {
			port = portOf(c, probe.TCPSocket.Port)
		}
		if port == h.port && port > 0 {
			rate += 1 / float64(max(cmp.Or(probe.PeriodSeconds, 10), 1))
		}
	}
	return rate
}

// Clients says where the clients of a pod without an Envoy are counted, for people.
func (p *Plan) Clients() string {
	var ports []string
	for _, arg := range p.Args {
		if rest, ok := strings.CutPrefix(arg, "--watch="); ok {
			ports = append(ports, rest)
		}
	}
	if len(ports) == 0 {
		return "no clients"
	}
	return "clients are counted at " + strings.Join(ports, ", ")
}
