{{/*
Names and labels. All templates of this chart take a dict: "root" is $ of the calling chart, "values" are the values of
this chart (.Values here, .Values.sidekey in a chart that depends on it). No template uses root.Chart or root.Files, which
belong to the calling chart.
*/}}

{{/* The version of Sidekey for this chart, its appVersion: templates called from a parent chart cannot read appVersion. */}}
{{- define "sidekey.version" -}}
0.1.0
{{- end }}

{{- define "sidekey.name" -}}
{{- .values.nameOverride | default "sidekey" | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* The name of the objects: at most 50 characters, so that names with a suffix stay below 63. */}}
{{- define "sidekey.fullname" -}}
{{- $name := include "sidekey.name" . -}}
{{- $release := .root.Release.Name -}}
{{- $full := contains $name $release | ternary $release (printf "%s-%s" $release $name) -}}
{{- .values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "sidekey.labels" -}}
helm.sh/chart: sidekey-{{ include "sidekey.version" . }}
app.kubernetes.io/name: {{ include "sidekey.name" . | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/version: {{ include "sidekey.version" . | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* Labels that select the gateway's pods. */}}
{{- define "sidekey.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sidekey.name" . | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: gateway
{{- end }}

{{/* Name, namespace and labels of an object. */}}
{{- define "sidekey.metadata" -}}
{{- $name := include "sidekey.fullname" . }}
name: {{ .suffix | empty | ternary $name (printf "%s-%s" $name .suffix) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "sidekey.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sidekey.image" -}}
{{- with .values.image -}}
{{- if not .repository -}}
{{- fail "sidekey: image.repository: is required: build the image with Sidekey's Dockerfile, push it to your registry, and name it, such as image: {repository: registry.example.com/sidekey}." -}}
{{- end -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default (include "sidekey.version" $) }}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "sidekey.serviceAccountName" -}}
{{- $made := .values.serviceAccount.create | ternary (include "sidekey.fullname" .) "default" -}}
{{- .values.serviceAccount.name | default $made -}}
{{- end }}
