{{/* Fields of the chart's own pods: gateway and config check. A sidecar runs in its service's pod. */}}
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
  # Files in volumes stay private to Sidekey (0600): the kubelet does not change their group at each start.
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
