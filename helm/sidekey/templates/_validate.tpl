{{/* What values.schema.json cannot say: faults between values. Each message has its place and the way out. */}}

{{- define "sidekey.validate" -}}
{{- $values := .values -}}
{{- if and (eq $values.mode "gateway") (not $values.callers) -}}
{{- fail "sidekey: callers: a gateway needs at least one caller. Name who may use it and the Secret that holds the token, such as callers: {billing: {secret: {name: sidekey-callers}, integrations: [crm]}}; or set mode: none and take Sidekey into your own chart's pods." -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail (printf "sidekey: autoscaling: minReplicas (%d) is more than maxReplicas (%d)." (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and (eq $values.mode "none") (eq $values.metrics.monitor "ServiceMonitor") -}}
{{- fail "sidekey: metrics.monitor: a sidecar has no Service; write PodMonitor." -}}
{{- end -}}
{{- $names := dict "sidekey" "the chart's own file" -}}
{{- range $values.configSources -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: configSources: the name %s stands for %s already; give this one another." .name (get $names .name)) -}}
{{- end -}}
{{- $_ := set $names .name "a source above" -}}
{{- end -}}
{{- $paths := dict "/etc/sidekey" "the config" "/run/sidekey/callers" "the callers' tokens" "/dev/shm" "Sidekey itself" -}}
{{- range include "sidekey.mounts" . | fromJsonArray -}}
{{- if hasKey $paths .path -}}
{{- fail (printf "sidekey: %s: %s is mounted at %s, where %s is already; give one of them another mountPath." .list .name .path (get $paths .path)) -}}
{{- end -}}
{{- $_ := set $paths .path (printf "%s of %s" .name .list) -}}
{{- end -}}
{{- end }}

{{/* What the service's container is told must fit the config. */}}
{{- define "sidekey.validateEnv" -}}
{{- $values := .values -}}
{{- if eq $values.mode "gateway" -}}
{{- fail "sidekey: mode: write none in a chart that takes Sidekey into its own pods; gateway makes a Deployment of its own." -}}
{{- end -}}
{{- if not (or $values.config $values.configSources) -}}
{{- fail "sidekey: config: there is none for this sidecar; write its integrations, such as config: {integrations: {crm: {...}}}, or name ConfigMaps in configSources." -}}
{{- end -}}
{{- $id := $values.httpProxy.integration -}}
{{- $integrations := $values.config.integrations | default dict -}}
{{- if and $id (not $values.configSources) (not (hasKey $integrations $id)) -}}
{{- fail (printf "sidekey: httpProxy.integration: config.integrations has no %s; it has: %s." $id (keys $integrations | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- if and $values.callers (not (hasKey $values.callers $values.caller)) -}}
{{- fail (printf "sidekey: caller: say which of the callers this service is: %s." (keys $values.callers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if and $values.caller (not $values.callers) -}}
{{- fail (printf "sidekey: caller: there are no callers, so %s has no token; name it under callers, or drop this." $values.caller) -}}
{{- end -}}
{{- end }}
