package inject

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/drain-agent/drain-agent/deploy/internal/manifest"
)

// Names that the pod and the agent agree on.
const (
	AgentContainer  = "drain-agent"
	Port            = 9909
	TokenAnnotation = "drain-agent/token"
	ReportCA        = "drain-agent/report-ca" // annotation
	ReportAudience  = "drain-controller"
	sharedDir       = "/run/drain-agent"
	tokenDir        = "/etc/drain-agent"
	reportDir       = "/etc/drain-agent-report"
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
    emptyDir: {{if .Plan.Binary}}{sizeLimit: 64Mi}{{else}}{medium: Memory, sizeLimit: 1Mi}{{end}}
{{- if .Plan.Token}}
  - name: drain-agent-token
    downwardAPI:
      items:
      - path: token
        fieldRef: {fieldPath: "metadata.annotations['drain-agent/token']"}
{{- end}}
{{- if .Plan.Report}}
  - name: drain-agent-report # shows the ledger which pod reports; good for nothing else
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: drain-controller, expirationSeconds: 3600}
{{- if .Plan.ReportCA}}
      - downwardAPI:
          items:
          - path: ca.crt
            fieldRef: {fieldPath: "metadata.annotations['drain-agent/report-ca']"}
{{- end}}
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
  - {name: drain-agent, containerPort: {{.Port}}}
  startupProbe:
{{- if .ExecProbe}}
    exec: {command: [/drain-agent, probe, "http://127.0.0.1:{{.Port}}/startupz"]}
{{- else}}
    httpGet: {path: /startupz, port: {{.Port}}}
{{- end}}
    periodSeconds: 1
    failureThreshold: 30
  readinessProbe:
    httpGet: {path: /readyz, port: {{.Port}}}
    periodSeconds: 5
  livenessProbe:
    httpGet: {path: /livez, port: {{.Port}}}
    periodSeconds: 10
    timeoutSeconds: 5
  lifecycle:
{{- if .Wait}}
    postStart:
      exec: {command: [/drain-agent, wait{{if .OtherAdmin}}, {{quote (print "--envoy-admin=" .Admin)}}{{end}}]}
{{- end}}
    preStop:
      {{- template "get" (get . "agent")}}
{{- if .PodResources}}
{{- else if .Guaranteed}}
  resources: # alike: the pod stays Guaranteed
    requests: {cpu: 100m, memory: 32Mi}
    limits: {cpu: 100m, memory: 32Mi}
{{- else}}
  resources:
    requests: {cpu: 10m, memory: 24Mi}
    limits: {memory: 32Mi}
{{- end}}
{{- template "restricted" .}}
  volumeMounts:
  - {name: drain-agent, mountPath: /run/drain-agent}
{{- if .Token}}
  - {name: drain-agent-token, mountPath: /etc/drain-agent, readOnly: true}
{{- end}}
{{- if .Report}}
  - {name: drain-agent-report, mountPath: /etc/drain-agent-report, readOnly: true}
{{- end}}
{{- range .Mounts}}
  - {name: {{quote .Name}}, mountPath: {{quote .MountPath}}}
{{- end}}
{{- end}}

{{define "restricted"}}
  securityContext:
    runAsNonRoot: true
{{- if .User}}
    runAsUser: {{.User}}
    runAsGroup: {{.User}}
{{- end}}
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
{{- end}}

{{define "install" -}}
- name: drain-agent-install # hooks that are chained to a command, and probes inside the mesh, need the binary in their own container
  image: {{.Image}}
  imagePullPolicy: IfNotPresent
  args: [install, /run/drain-agent]
{{- if .PodResources}}
{{- else if .Guaranteed}}
  resources: # alike: the pod stays Guaranteed
    requests: {cpu: 100m, memory: 64Mi}
    limits: {cpu: 100m, memory: 64Mi}
{{- else}}
  resources:
    requests: {cpu: 10m, memory: 24Mi}
    limits: {memory: 64Mi}
{{- end}}
{{- template "restricted" .}}
  volumeMounts:
  - {name: drain-agent, mountPath: /run/drain-agent}
{{- end}}

{{define "stub" -}}
- name: istio-proxy # Istio's injector fills it, field by field
  image: auto
  imagePullPolicy: IfNotPresent # without one the API server writes Always before Istio sees the pod
  lifecycle:
    preStop:
      {{- template "get" (get . "proxy")}}
{{- if .Restricted}}
  securityContext:
    runAsNonRoot: true
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
    seccompProfile: {type: RuntimeDefault}
{{- end}}
{{- end}}

{{define "held" -}}
- name: {{quote .Name}}
{{- if .Hook.Name}}
{{- if and .Plan.StartProbe (eq .Hook.Name "proxy")}}
  startupProbe: # what comes later starts when the proxy answers; the agent asks its admin
    $patch: replace
    httpGet: {path: /startupz/proxy, port: {{.Plan.Port}}{{if .Plan.HostNetwork}}, host: 127.0.0.1{{end}}}
    periodSeconds: 1
    failureThreshold: 60
{{- end}}
{{- if and .Plan.ReadyProbe (eq .Hook.Name "proxy")}}
  readinessProbe: # nobody asked the proxy: clients would come before it listens. Once it has answered the agent, this holds
    httpGet: {path: /startupz/proxy, port: {{.Plan.Port}}{{if .Plan.HostNetwork}}, host: 127.0.0.1{{end}}}
    periodSeconds: 2
    failureThreshold: 10
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
{{- else}}
      {{- template "get" .}}
{{- end}}
{{- end}}
{{- range .Probes}}
  {{.Kind}}: # asked inside the container: STRICT mutual TLS refuses kubelet's plain call of a port where requests come in
    $patch: replace
    exec:
      command:
{{- range .Command}}
      - {{quote .}}
{{- end}}
{{- range .Fields}}
    {{index . 0}}: {{index . 1}}
{{- end}}
{{- end}}
{{- if or .Hook.Chain .Probes}}
  volumeMounts:
  - {name: drain-agent, mountPath: /run/drain-agent}
{{- end}}
{{- end}}

{{define "redirection" -}}
- name: {{quote .Container}}
{{- if .Args}}
  args:
{{- range .Args}}
  - {{quote .}}
{{- end}}
{{- else}}
  env:
  - name: {{.Variable}}
    value: {{quote .Value}}
{{- end}}
{{- end}}

{{define "get"}}
      httpGet:
        path: /prestop/{{.Hook.Name}}
        port: {{.Plan.Port}} # a number: a name would be looked up among the container's own ports
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
	Plan   *Plan
	Name   string
	Hook   hook // without a name where the container keeps its own
	Probes []execProbe
}

var parsed = template.Must(template.New("").Funcs(template.FuncMap{
	"quote": quote,
	"get":   func(p *Plan, name string) held { return held{Plan: p, Hook: hook{Name: name}} },
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

// podPatch writes the plan as a strategic merge patch of the pod template. whole names the containers that stay as they are too:
// kustomize puts those that a patch names before all others.
func (p *Plan) podPatch(w *manifest.Workload, whole bool) string {
	initial, regular := []string{}, []string{}
	if p.Binary {
		initial = append(initial, render("install", p))
	}
	if p.Stub {
		regular = append(regular, render("stub", p))
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
		one := held{Plan: p, Name: c.Name, Probes: p.Probes[c.Name]}
		if h := slices.IndexFunc(p.Hooks, func(h hook) bool { return h.Container == c.Name }); h >= 0 {
			one.Hook = p.Hooks[h]
		}
		if one.Hook.Name != "" || len(one.Probes) > 0 {
			*list = append(*list, render("held", one))
		} else if r := p.redirected(c.Name); r != nil {
			*list = append(*list, render("redirection", r))
		} else if whole {
			*list = append(*list, "- name: "+quote(c.Name))
		}
	}
	return render("pod", map[string]any{"Plan": p, "Annotations": p.annotations(w), "Lists": []list{{"initContainers", initial}, {"containers", regular}}})
}

// Patch writes the plan as a patch of the workload, which kustomize takes: strategic merge, or JSON 6902 where kustomize has no
// schema of the kind and would replace lists of containers as a whole.
func (p *Plan) Patch(w *manifest.Workload) string {
	if !w.Merges() {
		return p.operations(w)
	}
	patch := p.podPatch(w, true)
	for _, key := range slices.Backward(manifest.TemplatePath(w.Kind)) {
		patch = key + ":\n  " + strings.TrimSpace(strings.ReplaceAll(patch, "\n", "\n  ")) + "\n"
	}
	head := "apiVersion: " + w.APIVersion + "\nkind: " + w.Kind + "\n"
	namespace := ""
	if given := w.GivenNamespace(); given != "" {
		namespace = ", namespace: " + quote(given)
	}
	if rest, has := strings.CutPrefix(patch, "metadata:\n"); has {
		head += "metadata:\n  name: " + quote(w.Name) + "\n"
		if namespace != "" {
			head += "  namespace: " + quote(w.GivenNamespace()) + "\n"
		}
		return head + rest
	}
	return head + "metadata: {name: " + quote(w.Name) + namespace + "}\n" + patch
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
