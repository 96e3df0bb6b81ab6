{{- define "hidiffusion.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "hidiffusion.labels" -}}
app.kubernetes.io/name: hidiffusion
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "hidiffusion.selector" -}}
app.kubernetes.io/name: hidiffusion
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "hidiffusion.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "hidiffusion.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "hidiffusion.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* What every pod has: a numeric user, no rights, no service links that look like settings. */}}
{{- define "hidiffusion.pod" -}}
serviceAccountName: {{ include "hidiffusion.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.security.runAsUser }}
  runAsGroup: {{ .Values.security.runAsUser }}
  fsGroup: {{ .Values.security.runAsUser }}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hidiffusion.container" -}}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* The key of the store's Secret that holds its credentials. */}}
{{- define "hidiffusion.storeKey" -}}
{{- get (dict "s3" "secretAccessKey" "gs" "key.json" "az" "accountKey") (index (splitList "://" .Values.store.url) 0) -}}
{{- end -}}

{{/* Labels of this release's figures: of prometheus-operator, and of the PodMonitors here. */}}
{{- define "hidiffusion.figures" -}}
namespace={{ .Release.Namespace | quote }},release={{ .Release.Name | quote }}
{{- end -}}

{{/* Settings of every container. */}}
{{- define "hidiffusion.environment" -}}
{{- $redis := .Values.redis -}}
{{- if not (or $redis.url $redis.urlSecret.name) -}}
{{- fail "redis.url is empty: set it (redis://host:6379/0), or redis.urlSecret.name to a Secret that holds it" -}}
{{- end -}}
- name: HIDIFFUSION_REDIS__URL
{{- if $redis.urlSecret.name }}
  valueFrom: {secretKeyRef: {name: {{ $redis.urlSecret.name | quote }}, key: {{ $redis.urlSecret.key | quote }}}}
{{- else }}
  value: {{ $redis.url | quote }}
{{- end }}
- name: HIDIFFUSION_STORE__URL
  value: {{ required "store.url is empty: set it to s3://bucket/prefix; API and workers must both reach it" .Values.store.url | quote }}
- name: HIDIFFUSION_STORE__REGION
  value: {{ .Values.store.region | quote }}
{{- with .Values.store.endpoint }}
- name: HIDIFFUSION_STORE__ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.store.azureAccount }}
- name: HIDIFFUSION_STORE__AZURE_ACCOUNT
  value: {{ . | quote }}
{{- end }}
{{- if .Values.store.credentialsSecret }}
{{- $file := include "hidiffusion.storeKey" . }}
{{- if eq $file "secretAccessKey" }}
- name: HIDIFFUSION_STORE__ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .Values.store.credentialsSecret | quote }}, key: accessKeyId}}
{{- end }}
- name: HIDIFFUSION_STORE__{{ get (dict "secretAccessKey" "SECRET_ACCESS_KEY_FILE" "key.json" "GOOGLE_CREDENTIALS_FILE" "accountKey" "AZURE_KEY_FILE") $file }}
  value: /etc/hidiffusion-store/{{ $file }}
{{- end }}
{{- if .Values.catalog }}
- name: HIDIFFUSION_CATALOG
  value: /etc/hidiffusion/catalog.json
{{- end }}
{{- with .Values.monitoring.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if .Values.webhooks.enabled }}
- name: HIDIFFUSION_WEBHOOKS__SECRET_FILE
  value: /etc/hidiffusion-webhooks/secrets.json
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "hidiffusion.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.store.credentialsSecret }}
- {name: store, mountPath: /etc/hidiffusion-store, readOnly: true}
{{- end }}
{{- if .Values.catalog }}
- {name: catalog, mountPath: /etc/hidiffusion, readOnly: true}
{{- end }}
{{- if .Values.webhooks.enabled }}
- {name: webhooks, mountPath: /etc/hidiffusion-webhooks, readOnly: true}
{{- end }}
{{- end -}}

{{- define "hidiffusion.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- if .Values.store.credentialsSecret }}
{{- $file := include "hidiffusion.storeKey" . }}
- {name: store, secret: {secretName: {{ .Values.store.credentialsSecret | quote }}, items: [{key: {{ $file }}, path: {{ $file }}}]}}
{{- end }}
{{- if .Values.catalog }}
- {name: catalog, configMap: {name: {{ include "hidiffusion.name" . }}-catalog}}
{{- end }}
{{- if .Values.webhooks.enabled }}
- name: webhooks
  secret: {secretName: {{ required "webhooks.secret is empty: name a Secret with the key secrets.json" .Values.webhooks.secret | quote }}}
{{- end }}
{{- end -}}

{{/* A container of the Job that downloads models: its only settings are where the catalogue is. */}}
{{- define "hidiffusion.modelsContainer" -}}
image: {{ include "hidiffusion.image" (dict "image" .Values.images.worker "root" .) }}
{{ include "hidiffusion.container" . }}
env:
  - {name: HIDIFFUSION_CATALOG, value: /models/catalog.json}
  - {name: HF_HOME, value: /tmp/huggingface}
  {{- with .Values.models.tokenSecret }}
  - {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: token}}}
  {{- end }}
resources: {{- toYaml .Values.models.job.resources | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: models, mountPath: /models}
{{- end -}}

{{/* Whether the catalogue is the one that the Job writes. */}}
{{- define "hidiffusion.catalogOnClaim" -}}
{{- if and .Values.models.add (not .Values.catalog) }}true{{ end -}}
{{- end -}}

{{/* Waits until there is a catalogue; what is added later is read when it is there. */}}
{{- define "hidiffusion.catalogAwaited" -}}
initContainers:
  - name: catalog
    image: {{ include "hidiffusion.image" (dict "image" .image "root" .root) }}
    {{- include "hidiffusion.container" .root | nindent 4 }}
    command: [/bin/sh, -ec, "until [ -s /models/catalog.json ]; do sleep 2; done"]
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      - {name: models, mountPath: /models, readOnly: true}
{{- end -}}
