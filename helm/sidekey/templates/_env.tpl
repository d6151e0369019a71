{{/*
For a service's own chart: entries for `env` of the service's container.

HTTP_PROXY is there only with httpProxy.integration: a proxy for everything would break the service's calls inside the
cluster. Both cases are set, since curl reads http_proxy alone. There is no HTTPS_PROXY: see docs/clients.md.
$(KUBERNETES_SERVICE_HOST), the API server, is expanded by the kubelet, which knows the variables of Services:
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables
It is there even with enableServiceLinks: false.
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
{{- with .values.httpProxy.integration }}
{{- $password := empty $.values.caller | ternary "x" "$(SIDEKEY_TOKEN)" }}
{{- $url := printf "http://%s:%s@127.0.0.1:15080" . $password }}
{{- $cluster := list ".svc" (printf ".%s" $.values.clusterDomain) "$(KUBERNETES_SERVICE_HOST)" }}
{{- $direct := concat (list "localhost" "127.0.0.1" "::1") $cluster ($.values.httpProxy.noProxy | default list) | uniq | join "," }}
- name: HTTP_PROXY
  value: {{ $url | quote }}
- name: http_proxy
  value: {{ $url | quote }}
- name: NO_PROXY
  value: {{ $direct | quote }}
- name: no_proxy
  value: {{ $direct | quote }}
{{- end }}
{{- end }}
