{{/*
`sidekey check` as a hook of install and upgrade: a Job with its own ConfigMap, for a gateway and for the sidecar in a
service's chart.

It runs before anything changes. With externalSecrets or csi it runs afterwards, because the release itself creates their
Secrets and the ServiceAccount of a CSI mount.
*/}}
{{- define "sidekey.configCheck" -}}
{{- if .values.configCheck.enabled }}
{{- $before := not (or .values.externalSecrets .values.csi) }}
{{- $hook := dict "helm.sh/hook" ($before | ternary "pre-install,pre-upgrade" "post-install,post-upgrade") }}
{{- $_ := set $hook "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" }}
{{- $labels := dict "app.kubernetes.io/component" "config-check" }}
{{- $gateway := eq .values.mode "gateway" }}
{{- $account := and $gateway (not $before) | ternary (include "sidekey.serviceAccountName" .) "default" }}
{{- $dict := merge (dict "suffix" "config-check" "labels" $labels) . }}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- $first := merge (dict "helm.sh/hook-weight" "-5") $hook }}
  {{- include "sidekey.metadata" (merge (dict "annotations" $first) $dict) | nindent 2 }}
{{ include "sidekey.configData" . }}
---
apiVersion: batch/v1
kind: Job
metadata:
  {{- $shown := merge (dict "helm.sh/hook-output-log-policy" "hook-failed") $hook }}
  {{- include "sidekey.metadata" (merge (dict "annotations" $shown) $dict) | nindent 2 }}
spec:
  backoffLimit: 0
  activeDeadlineSeconds: 120
  template:
    metadata:
      labels:
        {{- include "sidekey.labels" . | nindent 8 }}
        {{- toYaml $labels | nindent 8 }}
        # A mesh's sidecar would keep running after the check, and the Job would never complete.
        sidecar.istio.io/inject: "false"
      annotations:
        linkerd.io/inject: disabled
    spec:
      restartPolicy: Never
      serviceAccountName: {{ .values.configCheck.serviceAccountName | default $account | quote }}
      {{- include "sidekey.podBase" (merge (dict "check" true) .) | nindent 6 }}
      containers:
        - name: config-check
          args: [check]
          {{- include "sidekey.containerBase" (merge (dict "check" true) .) | nindent 10 }}
      volumes:
        {{- $name := printf "%s-config-check" (include "sidekey.fullname" .) }}
        {{- include "sidekey.volumes" (merge (dict "check" true "configMap" $name) .) | nindent 8 }}
{{- end }}
{{- end }}
