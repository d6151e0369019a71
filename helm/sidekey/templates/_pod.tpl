{{/* What the chart's own pods have in common: gateway and config check. A sidecar's pod is its service's. */}}
{{- define "sidekey.podBase" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .values.runAsUser }}
  runAsUser: {{ int64 . }}
  runAsGroup: {{ int64 . }}
  {{- end }}
  {{- if and (get (include "sidekey.store" . | fromJson) "embedded") (not .check) }}
  {{- with .values.runAsUser }}
  fsGroup: {{ int64 . }}
  {{- end }}
  # What is there belongs to Sidekey alone (0600), and is not opened to the group with each start.
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with .values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
