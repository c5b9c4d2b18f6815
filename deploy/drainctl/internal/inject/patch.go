package inject

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/drain-agent/drain-agent/deploy/drainctl/internal/manifest"
)

// Names that the pod and the agent agree on.
const (
	AgentContainer  = "drain-agent"
	Port            = 9909
	TokenAnnotation = "drain-agent/token"
	sharedDir       = "/run/drain-agent"
	tokenDir        = "/etc/drain-agent"
	defaultAdmin    = "http://127.0.0.1:15000" // of Envoy, in drain-agent wait
)

// list is one of a pod's two lists of containers, with the YAML that is merged into it.
type list struct {
	Name       string
	Containers []string
}

// patches is the only place where the YAML that is added to pods is written down.
const patches = `
{{define "pod"}}
{{- if .Annotations}}metadata:
  annotations:
{{- range .Annotations}}
    {{index . 0}}: {{index . 1 | printf "%q"}}
{{- end}}
{{end}}spec:
  terminationGracePeriodSeconds: {{.Plan.Grace.Seconds}} # and --grace-period below: the agent cannot see this field
{{- range .Lists}}
{{- if .Containers}}
  {{.Name}}:
{{- range .Containers}}
{{indent 2 .}}
{{- end}}
{{- end}}
{{- end}}
  volumes:
  - name: drain-agent
    emptyDir: {{if .Plan.Chained}}{sizeLimit: 64Mi}{{else}}{medium: Memory, sizeLimit: 1Mi}{{end}}
{{- if .Plan.Token}}
  - name: drain-agent-token
    downwardAPI:
      items:
      - path: token
        fieldRef: {fieldPath: "metadata.annotations['drain-agent/token']"}
{{- end}}
{{end}}

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
      {{- template "get" (get . "agent")}}
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

{{define "held" -}}
- name: {{.Hook.Container}}
{{- if and .Plan.StartProbe (eq .Hook.Name "proxy")}}
  startupProbe: # what comes later starts when the proxy answers; the agent asks its admin
    $patch: replace
    httpGet: {path: /startupz/proxy, port: 9909{{if .Plan.HostNetwork}}, host: 127.0.0.1{{end}}}
    periodSeconds: 1
    failureThreshold: 60
{{- end}}
  lifecycle:
    preStop:
      $patch: replace # two kinds of hook in one are refused
{{- if .Hook.Chain}}
      exec:
        command:
{{- range .Hook.Command}}
        - {{quote .}}
{{- end}}
  volumeMounts:
  - {name: drain-agent, mountPath: /run/drain-agent}
{{- else}}
      {{- template "get" .}}
{{- end}}
{{- end}}

{{define "get"}}
      httpGet:
        path: /prestop/{{.Hook.Name}}
        port: 9909 # a number: a name would be looked up among the container's own ports
{{- if .Plan.HostNetwork}}
        host: 127.0.0.1
{{- end}}
{{- if .Plan.Token}}
        httpHeaders:
        - {name: Drain-Agent-Token, value: {{quote .Plan.Token}}}
{{- end}}
{{- end}}
`

// held is what the patch of one container is made from.
type held struct {
	Plan *Plan
	Hook hook
}

var parsed = template.Must(template.New("").Funcs(template.FuncMap{
	"quote": quote,
	"get":   func(p *Plan, name string) held { return held{p, hook{Name: name}} },
	"indent": func(n int, text string) string {
		return strings.Repeat(" ", n) + strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", n))
	},
}).Parse(patches))

func render(name string, data any) string {
	var out strings.Builder
	if err := parsed.ExecuteTemplate(&out, name, data); err != nil {
		panic(fmt.Sprintf("patch %s: %v", name, err)) // a mistake in the constant above; every test would see it
	}
	return out.String()
}

// podPatch writes the plan as a strategic merge patch of the pod template.
func (p *Plan) podPatch(w *manifest.Workload) string {
	initial, regular := []string{}, []string{}
	if p.Chained {
		initial = append(initial, render("install", p))
	}
	agent := render("agent", p)
	if p.Native {
		initial = append(initial, agent)
	}
	for i, c := range w.Containers() {
		list, at := &initial, i-len(w.Pod.Spec.InitContainers)
		if at >= 0 {
			list = &regular
		}
		if !p.Native && (at == 0 && !p.Wait || at == 1 && p.Wait) { // its wait holds back what stands behind it
			regular = append(regular, agent)
		}
		if h := slices.IndexFunc(p.Hooks, func(h hook) bool { return h.Container == c.Name }); h >= 0 {
			*list = append(*list, render("held", held{p, p.Hooks[h]}))
		}
	}
	return render("pod", map[string]any{"Plan": p, "Annotations": p.annotations(w), "Lists": []list{{"initContainers", initial}, {"containers", regular}}})
}

// Patch writes the plan as a strategic merge patch of the workload, which kustomize takes.
func (p *Plan) Patch(w *manifest.Workload) string {
	patch := p.podPatch(w)
	for _, key := range slices.Backward(manifest.TemplatePath(w.Kind)) {
		patch = key + ":\n  " + strings.TrimSpace(strings.ReplaceAll(patch, "\n", "\n  ")) + "\n"
	}
	head := "apiVersion: " + w.APIVersion + "\nkind: " + w.Kind + "\n"
	if rest, has := strings.CutPrefix(patch, "metadata:\n"); has {
		return head + "metadata:\n  name: " + w.Name + "\n" + rest
	}
	return head + "metadata: {name: " + w.Name + "}\n" + patch
}

// plainText is what YAML reads as the same text without quotes.
var plainText = regexp.MustCompile(`^(--)?[A-Za-z/][A-Za-z0-9_./=,+-]*(:[A-Za-z0-9_./=,+#-]+)*$`)

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
