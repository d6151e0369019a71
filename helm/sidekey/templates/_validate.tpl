{{/* What values.schema.json cannot say: faults between values. Each message has its place and the way out. */}}

{{- define "sidekey.validate" -}}
{{- $values := .values -}}
{{- if and (eq $values.mode "gateway") (not $values.callers) -}}
{{- fail "sidekey: callers: a gateway needs at least one caller. Name who may use it and the Secret that holds the token, such as callers: {billing: {secret: {name: sidekey-callers}, integrations: [crm]}}; or set mode: none and take Sidekey into your own chart's pods." -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail (printf "sidekey: autoscaling: minReplicas (%d) is more than maxReplicas (%d)." (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- $resources := $values.resources | default dict -}}
{{- if and (eq $values.mode "gateway") $values.autoscaling.enabled (not (or (dig "requests" "cpu" "" $resources) (dig "limits" "cpu" "" $resources))) -}}
{{- fail "sidekey: autoscaling: it aims for a share of the CPU that is requested, and resources.requests.cpu is not there; set it." -}}
{{- end -}}
{{- if and (eq $values.mode "none") (eq $values.metrics.monitor "ServiceMonitor") -}}
{{- fail "sidekey: metrics.monitor: a sidecar has no Service; write PodMonitor." -}}
{{- end -}}
{{- if and (eq $values.metrics.monitor "ServiceMonitor") (eq (int $values.service.port) 15091) -}}
{{- fail "sidekey: service.port: 15091 is the Service's port of the metrics, with metrics.monitor: ServiceMonitor; take another." -}}
{{- end -}}
{{- $names := dict "sidekey" "the chart's own file" -}}
{{- range $values.configSources -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: configSources: the name %s stands for %s already; give this one another." .name (get $names .name)) -}}
{{- end -}}
{{- $_ := set $names .name "a source above" -}}
{{- end -}}
{{- include "sidekey.validateVolumes" . -}}
{{- include "sidekey.validateMounts" . -}}
{{- include "sidekey.validateVariables" . -}}
{{- include "sidekey.validateLabels" . -}}
{{- end }}

{{- define "sidekey.validateVolumes" -}}
{{- $names := dict -}}
{{- range .values.extraVolumes -}}
{{- if hasPrefix "sidekey-" .name -}}
{{- fail (printf "sidekey: extraVolumes: the name %s is like those of Sidekey's own volumes; give it one that does not begin with sidekey-." .name) -}}
{{- end -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: extraVolumes: the name %s stands there twice; give one of the two another." .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- end }}

{{/*
No two mounts at one path, and none inside of another: the folder for the inner one cannot be made in a volume that is
mounted read-only, and a volume over the config would hide it.
*/}}
{{- define "sidekey.validateMounts" -}}
{{- $taken := dict "/etc/sidekey" "the config" "/run/sidekey/callers" "the callers' tokens" "/dev/shm" "Sidekey's own memory" -}}
{{- $mounts := include "sidekey.mounts" . | fromJsonArray -}}
{{- range .values.extraVolumeMounts -}}
{{- $mounts = append $mounts (dict "list" "extraVolumeMounts" "name" .name "path" .mountPath) -}}
{{- end -}}
{{- range $mounts -}}
{{- $mount := . -}}
{{- $path := clean .path -}}
{{- range $other, $what := $taken -}}
{{- if or (hasPrefix (printf "%s/" (trimSuffix "/" $path)) (printf "%s/" $other)) (hasPrefix (printf "%s/" (trimSuffix "/" $other)) (printf "%s/" $path)) -}}
{{- fail (printf "sidekey: %s: %s is mounted at %s, and %s at %s: one lies in the other; give one of them another mountPath." $mount.list $mount.name $mount.path $what $other) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $taken $path (printf "%s of %s" .name .list) -}}
{{- end -}}
{{- end }}

{{- define "sidekey.validateVariables" -}}
{{- $names := dict "SIDEKEY_CONFIG" "the chart's own" -}}
{{- range .values.env -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: env: the variable %s is there already (%s); give this one another name." .name (get $names .name)) -}}
{{- end -}}
{{- $_ := set $names .name "an entry above" -}}
{{- end -}}
{{- end }}

{{/* A label of the chart's, written twice: which one counts depends on who reads it. */}}
{{- define "sidekey.validateLabels" -}}
{{- $values := .values -}}
{{- $own := include "sidekey.labels" . | fromYaml | merge (include "sidekey.selectorLabels" . | fromYaml) -}}
{{- $labels := dict "podLabels" $values.podLabels "metrics.labels" $values.metrics.labels -}}
{{- $labels = merge $labels (dict "prometheusRule.labels" $values.prometheusRule.labels "dashboard.labels" $values.dashboard.labels) -}}
{{- range $place, $given := $labels -}}
{{- range $label, $_ := $given -}}
{{- if hasKey $own $label -}}
{{- fail (printf "sidekey: %s: %s belongs to the chart; leave it out (nameOverride sets app.kubernetes.io/name)." $place $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey ($values.podAnnotations | default dict) "sidekey/listen" -}}
{{- fail "sidekey: podAnnotations: sidekey/listen belongs to the chart; leave it out." -}}
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
{{- $integrations := get ($values.config | default dict) "integrations" | default dict -}}
{{- if and $id (not $values.configSources) (not (hasKey $integrations $id)) -}}
{{- fail (printf "sidekey: httpProxy.integration: config.integrations has no %s; it has: %s." $id (keys $integrations | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- if and $values.callers (not (hasKey $values.callers ($values.caller | default ""))) -}}
{{- fail (printf "sidekey: caller: say which of the callers this service is: %s." (keys $values.callers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if and $values.caller (not $values.callers) -}}
{{- fail (printf "sidekey: caller: there are no callers, so %s has no token; name it under callers, or drop this." $values.caller) -}}
{{- end -}}
{{- end }}
