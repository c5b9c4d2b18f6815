{{- define "name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "secret" -}}
{{ include "name" . }}-certificate
{{- end }}

{{- define "selfMade" -}}
{{- if eq .Values.certificates.provider "self" }}yes{{ end }}
{{- end }}

{{- /* where the ledger is, or none; what must be said with it */ -}}
{{- define "store" -}}
{{- $l := .Values.ledger }}
{{- if and $l.enabled (eq $l.store "sqlite") }}
{{- if not $l.sqlite.claim }}{{ fail "ledger.sqlite.claim: name a PersistentVolumeClaim for ledger.store: sqlite" }}{{ end }}
{{- if gt (int .Values.replicas) 1 }}{{ fail "replicas: 1 for ledger.store: sqlite, or ledger.store: postgres for more" }}{{ end }}
{{- end }}
{{- if and $l.enabled (eq $l.store "postgres") (not $l.postgres.secret) }}{{ fail "ledger.postgres.secret: name a Secret for ledger.store: postgres" }}{{ end }}
{{- if $l.enabled }}{{ $l.store }}{{ else }}none{{ end }}
{{- end }}

{{- /* the ConfigMap with the authorities of agents' certificates, or none */ -}}
{{- define "reportClientCA" -}}
{{- $l := .Values.ledger }}
{{- if and $l.reportClientCA.configMap (not (and $l.enabled $l.reports)) }}{{ fail "ledger.reports: true for ledger.reportClientCA, or nobody reports" }}{{ end }}
{{- $l.reportClientCA.configMap }}
{{- end }}

{{- define "api" -}}
{{- if and .Values.ledger.enabled (ne .Values.ledger.api "off") }}{{ .Values.ledger.api }}{{ end }}
{{- $ports := list }}
{{- range .Values.ledger.authProxy.ports }}{{ $ports = append $ports .name }}{{ end }}
{{- if and .Values.ledger.enabled (eq .Values.ledger.api "proxy") (not (has "api" $ports)) }}{{ fail "ledger.authProxy: give a container with a port named api for ledger.api: proxy" }}{{ end }}
{{- end }}

{{- define "security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* names of namespaces that are never asked about */ -}}
{{- define "excluded" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
{{- range concat (list "kube-system" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq }}
  - {{ . }}
{{- end }}
{{- end }}

{{- define "client" -}}
clientConfig:
  service: {name: {{ include "name" .root }}, namespace: {{ .root.Release.Namespace }}, path: {{ .path }}, port: 443}
admissionReviewVersions: [v1]
sideEffects: None
timeoutSeconds: {{ .root.Values.webhook.timeoutSeconds }}
failurePolicy: Ignore # a pod starts without an agent rather than not at all
matchPolicy: Equivalent
{{- end }}

{{- define "injector" -}}
{{- if not (include "selfMade" .) }}
annotations: {cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "name" . }}}
{{- end }}
{{- end }}
