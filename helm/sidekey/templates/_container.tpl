{{/* Sidekey's container. */}}

{{/* The complete pod security standard "restricted", and a read-only root. */}}
{{- define "sidekey.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- with .values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/*
The variables of `env`, as a JSON list. As for mounts, "check" in the dict lets the pod start although a Secret is missing.
`sidekey check` then names the variable; otherwise the kubelet would only wait.
*/}}
{{- define "sidekey.variables" -}}
{{- $variables := deepCopy (.values.env | default list) -}}
{{- if .check -}}
{{- range $variables -}}
{{- range pick .valueFrom "secretKeyRef" "configMapKeyRef" -}}
{{- $_ := set . "optional" true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $variables | toJson -}}
{{- end }}

{{/* Fields of every container of Sidekey, for the service and for the config check. */}}
{{- define "sidekey.containerBase" -}}
image: {{ include "sidekey.image" . | quote }}
imagePullPolicy: {{ .values.image.pullPolicy }}
env:
  - name: SIDEKEY_CONFIG
    value: /etc/sidekey
  {{- with include "sidekey.variables" . | fromJsonArray }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml (.values.resources | default dict) | nindent 2 }}
securityContext:
  {{- include "sidekey.securityContext" . | nindent 2 }}
volumeMounts:
  {{- include "sidekey.volumeMounts" . | nindent 2 }}
{{- end }}

{{/*
Further fields of a container that runs `sidekey run`. Sidekey starts within about a second; 60 attempts are for many
thousands of integrations. An earlier probe would cause an `Unhealthy` event at each start: the kubelet counts the delay
from the container's start, rounded down to a second, so a delay of 2 is at least one second. The startup probe does not
wait for the store, because a sidecar must not keep its application from starting.
*/}}
{{- define "sidekey.runBase" -}}
args: [run]
{{ include "sidekey.containerBase" . }}
ports:
  - name: sidekey-proxy
    containerPort: 15080
    protocol: TCP
  - name: sidekey-metrics
    containerPort: 15091
    protocol: TCP
  {{- if get (include "sidekey.console" . | fromJson) "on" }}
  - name: sidekey-console
    containerPort: 15090
    protocol: TCP
  {{- end }}
startupProbe:
  httpGet:
    path: /startupz
    port: sidekey-metrics
  initialDelaySeconds: 2
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /healthz
    port: sidekey-metrics
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
{{- end }}

{{/*
For a service's own chart: the sidecar, an entry of the pod's initContainers. As a native sidecar it is ready before the
service's containers start, and ends after them. Put it before init containers that send requests.
*/}}
{{- define "sidekey.container" -}}
{{- include "sidekey.validateEnv" . -}}
- name: sidekey
  restartPolicy: Always
  {{- include "sidekey.runBase" . | nindent 2 }}
{{- end }}
