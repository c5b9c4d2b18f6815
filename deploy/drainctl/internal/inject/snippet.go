package inject

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// Names that the pod and the agent agree on.
const (
	AgentContainer  = "drain-agent"
	Port            = 9909
	TokenAnnotation = "drain-agent/token"
	tokenHeader     = "Drain-Agent-Token"
	sharedDir       = "/run/drain-agent"
	tokenDir        = "/etc/drain-agent"
	sharedMount     = "- {name: drain-agent, mountPath: " + sharedDir + "}"
	defaultAdmin    = "http://127.0.0.1:15000" // of Envoy, in drain-agent wait
)

// snippets is the only place where the YAML that is added to pods is written down.
const snippets = `
{{define "agent" -}}
- name: drain-agent
  image: {{.Image}}
  imagePullPolicy: IfNotPresent
{{- if .Native}}
  restartPolicy: Always
{{- end}}
  args:
  - run
{{- range .Args}}
  - {{quote .}}
{{- end}}
  ports:
  - {name: drain-agent, containerPort: 9909}
  startupProbe:
{{- if .ExecProbe}}
    exec: {command: [/drain-agent, probe, "http://127.0.0.1:9909/startupz"]}
{{- else}}
    httpGet: {path: /startupz, port: 9909}
{{- end}}
    periodSeconds: 1
    failureThreshold: 30
  readinessProbe:
    httpGet: {path: /readyz, port: 9909}
    periodSeconds: 5
  livenessProbe:
    httpGet: {path: /livez, port: 9909}
    periodSeconds: 10
    timeoutSeconds: 5
  lifecycle:
{{- if .Wait}}
    postStart:
      exec: {command: [/drain-agent, wait{{if .OtherAdmin}}, {{quote (print "--envoy-admin=" .Admin)}}{{end}}]}
{{- end}}
    preStop:
{{indent 6 (get . "agent")}}
  resources:
    requests: {cpu: 10m, memory: 24Mi}
    limits: {memory: 32Mi}
  securityContext:
{{- if .User}}
    runAsNonRoot: true
    runAsUser: {{.User}}
    runAsGroup: {{.User}}
{{- end}}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
  - {name: drain-agent, mountPath: /run/drain-agent}
{{- if .Token}}
  - {name: drain-agent-token, mountPath: /etc/drain-agent, readOnly: true}
{{- end}}
{{- range .Mounts}}
  - {name: {{quote .Name}}, mountPath: {{quote .MountPath}}}
{{- end}}
{{- end}}

{{define "install" -}}
- name: drain-agent-install # the hooks that are chained to a command need the binary in their own container
  image: {{.Image}}
  imagePullPolicy: IfNotPresent
  args: [install, /run/drain-agent]
  resources:
    requests: {cpu: 10m, memory: 24Mi}
    limits: {memory: 64Mi}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
  - {name: drain-agent, mountPath: /run/drain-agent}
{{- end}}

{{define "volumes" -}}
- name: drain-agent
  emptyDir: {{if .Chained}}{sizeLimit: 64Mi}{{else}}{medium: Memory, sizeLimit: 1Mi}{{end}}
{{- if .Token}}
- name: drain-agent-token
  downwardAPI:
    items:
    - path: token
      fieldRef: {fieldPath: "metadata.annotations['drain-agent/token']"}
{{- end}}
{{- end}}

{{define "startup" -}}
startupProbe: # what comes later starts when the proxy answers; the agent asks its admin
  httpGet: {path: /startupz/proxy, port: 9909{{if .HostNetwork}}, host: 127.0.0.1{{end}}}
  periodSeconds: 1
  failureThreshold: 60
{{- end}}
`

var parsed = template.Must(template.New("").Funcs(template.FuncMap{
	"quote": quote,
	"get":   func(p *Plan, name string) string { return strings.Join(p.get(name), "\n") },
	"indent": func(n int, text string) string {
		return strings.Repeat(" ", n) + strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", n))
	},
}).Parse(snippets))

// plainText is what YAML reads as the same text without quotes.
var plainText = regexp.MustCompile(`^(--)?[A-Za-z/][A-Za-z0-9_./=,+-]*(:[A-Za-z0-9_./=,+#-]+)*$`)

// render writes one of the snippets as lines.
func (p *Plan) render(name string) []string {
	var out strings.Builder
	if err := parsed.ExecuteTemplate(&out, name, p); err != nil {
		panic(fmt.Sprintf("snippet %s: %v", name, err)) // a mistake in the constant above; every test would see it
	}
	return strings.Split(out.String(), "\n")
}

// get is the httpGet of a hook.
func (p *Plan) get(name string) []string {
	lines := []string{"httpGet:", "  path: /prestop/" + name, fmt.Sprintf("  port: %d # a number: a name would be looked up among the container's own ports", Port)}
	if p.HostNetwork {
		lines = append(lines, "  host: 127.0.0.1")
	}
	if p.Token != "" {
		lines = append(lines, "  httpHeaders:", "  - {name: "+tokenHeader+", value: "+quote(p.Token)+"}")
	}
	return lines
}

// preStop is what a container's lifecycle gets.
func (p *Plan) preStop(h hook) []string {
	lines := []string{"preStop:"}
	body := p.get(h.name)
	if h.chain != nil {
		body = []string{"exec:", "  command:"}
		for _, word := range h.command() {
			body = append(body, "  - "+quote(word))
		}
	}
	for _, line := range body {
		lines = append(lines, "  "+line)
	}
	return lines
}

// quote writes a text as YAML: plain where nobody could misread it, else as JSON does.
func quote(text string) string {
	if plainText.MatchString(text) &&
		!slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"}, strings.ToLower(text)) {
		return text
	}
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		panic(err) // a string always can
	}
	return strings.TrimSuffix(out.String(), "\n")
}
