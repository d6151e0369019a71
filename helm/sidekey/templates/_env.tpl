{{/*
For a service's own chart: entries for `env` of the service's container. Without httpProxy and httpsProxy it sets no proxy
variable, because a proxy for all calls would break the service's calls inside the cluster.
*/}}
{{- define "sidekey.env" -}}
{{- include "sidekey.validateEnv" . -}}
- name: SIDEKEY_URL
  value: http://127.0.0.1:15080
{{- with get (.values.callers | default dict) (.values.caller | default "") }}
- name: SIDEKEY_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ .secret.name | quote }}
      key: {{ .secret.key | default $.values.caller | quote }}
{{- end }}
{{- range include "sidekey.proxyVariables" . | fromJsonArray }}
- name: {{ .name }}
  {{- if contains " " .value }}
  value: >-
    {{- .value | replace " " "\n" | nindent 4 }}
  {{- else }}
  value: {{ .value | quote }}
  {{- end }}
{{- end }}
{{- end }}
