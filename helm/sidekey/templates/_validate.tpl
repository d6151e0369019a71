{{/* What values.schema.json cannot say: errors between values. Each message has its place and what to do. */}}

{{- define "sidekey.validate" -}}
{{- $values := .values -}}
{{- if and (eq $values.mode "gateway") (not $values.callers) (not (get (include "sidekey.store" . | fromJson) "on")) -}}
{{- fail "sidekey: callers: a gateway needs at least one caller, or a store with callers of its own. Name who may use it and the Secret that holds the token, such as callers: {billing: {secret: {name: sidekey-callers}, integrations: [crm]}}; or set store; or set mode: none and add Sidekey to the pods of your own chart." -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail (printf "sidekey: autoscaling: minReplicas (%d) must be at most maxReplicas (%d)." (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- $resources := $values.resources | default dict -}}
{{- if and (eq $values.mode "gateway") $values.autoscaling.enabled (not (or (dig "requests" "cpu" "" $resources) (dig "limits" "cpu" "" $resources))) -}}
{{- fail "sidekey: autoscaling: needs resources.requests.cpu, since it aims for a share of the CPU that is requested: set it." -}}
{{- end -}}
{{- if and (eq $values.mode "none") (eq $values.metrics.monitor "ServiceMonitor") -}}
{{- fail "sidekey: metrics.monitor: must be PodMonitor with mode: none, since a sidecar has no Service." -}}
{{- end -}}
{{- if and (eq $values.metrics.monitor "ServiceMonitor") (eq (int $values.service.port) 15091) -}}
{{- fail "sidekey: service.port: must not be 15091, which is the Service's metrics port with metrics.monitor: ServiceMonitor: choose another." -}}
{{- end -}}
{{- $names := dict "sidekey" "the chart's own file" -}}
{{- range $values.configSources -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: configSources: the name %s is already used by %s: choose another." .name (get $names .name)) -}}
{{- end -}}
{{- $_ := set $names .name "a source above" -}}
{{- end -}}
{{- include "sidekey.validateHttpsProxy" . -}}
{{- include "sidekey.validateStore" . -}}
{{- include "sidekey.validateConsole" . -}}
{{- include "sidekey.validateProcesses" . -}}
{{- include "sidekey.validateVolumes" . -}}
{{- include "sidekey.validateMounts" . -}}
{{- include "sidekey.validateVariables" . -}}
{{- include "sidekey.validateLabels" . -}}
{{- end }}

{{/*
Integrations of the values' own config that only one process may use, as a JSON dict of their IDs to the reason: a
refresh token that the provider ends with its use, and clients of which it keeps one token alive. Processes with a
store in PostgreSQL share these.
*/}}
{{- define "sidekey.singleTokenProviders" -}}
["tableau"]
{{- end }}

{{- define "sidekey.singleProcess" -}}
{{- $found := dict -}}
{{- $config := .values.config | default dict -}}
{{- $shared := get (include "sidekey.store" . | fromJson) "url" | empty | not -}}
{{- range $id, $integration := $shared | ternary dict (get $config "integrations" | default dict) -}}
{{- $auth := kindIs "map" $integration | ternary (get ($integration | default dict) "auth") dict -}}
{{- $auth = kindIs "map" $auth | ternary $auth dict -}}
{{- $grant := kindIs "map" (get $auth "grant") | ternary (get $auth "grant") dict -}}
{{- if and (eq (get $grant "type" | toString) "refresh_token") (ne (get $grant "rotates" | toString) "false") -}}
{{- $_ := set $found $id "its refresh token may end with each use; if the provider keeps it valid, write rotates: false under grant" -}}
{{- end -}}
{{- $single := get $auth "single_live_token" | toString -}}
{{- if eq $single "true" -}}
{{- $_ := set $found $id "single_live_token" -}}
{{- else if and (ne $single "false") (has (get $auth "provider") (include "sidekey.singleTokenProviders" . | fromJsonArray)) -}}
{{- $_ := set $found $id (printf "single_live_token, by the provider %s" (get $auth "provider")) -}}
{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}

{{- define "sidekey.validateProcesses" -}}
{{- $values := .values -}}
{{- if eq $values.mode "gateway" -}}
{{- range $id, $reason := include "sidekey.singleProcess" . | fromJson -}}
{{- $why := printf "since only one process may use the integration %s (%s)" $id $reason -}}
{{- $way := "set replicaCount: 1, strategy.type: Recreate and autoscaling.enabled: false, or store.url" -}}
{{- if $values.autoscaling.enabled -}}
{{- fail (printf "sidekey: autoscaling.enabled: must be false, %s: %s." $why $way) -}}
{{- end -}}
{{- if gt (int $values.replicaCount) 1 -}}
{{- fail (printf "sidekey: replicaCount: must be at most 1, %s: %s." $why $way) -}}
{{- end -}}
{{- if ne $values.strategy.type "Recreate" -}}
{{- fail (printf "sidekey: strategy.type: must be Recreate, %s: %s." $why $way) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* store: what the schema cannot compare. Of a store in two places, or with two pods that open one file, it says so. */}}
{{- define "sidekey.validateStore" -}}
{{- $values := .values -}}
{{- $store := include "sidekey.store" . | fromJson -}}
{{- $seen := dict -}}
{{- range $store.keys -}}
{{- if hasKey $seen .id -}}
{{- fail (printf "sidekey: store.keys: the ID %s is given twice: each key has one of its own." .id) -}}
{{- end -}}
{{- $_ := set $seen .id true -}}
{{- end -}}
{{- if and (get ($values.config | default dict) "store") (not $store.on) -}}
{{- fail "sidekey: config.store: must be left out without a store: set store.url or store.embedded.enabled, and store.keys." -}}
{{- end -}}
{{- $policy := $values.networkPolicy -}}
{{- if and (eq $values.mode "gateway") $store.url $policy.enabled (not (get ($policy.database | default dict) "to")) (not $policy.extraEgress) -}}
{{- fail "sidekey: networkPolicy.database.to: must say where the database of store.url is, since the policy keeps pods from it: such as [{podSelector: {matchLabels: {app: postgres}}}] or [{ipBlock: {cidr: 10.1.2.3/32}}]; or write a rule in networkPolicy.extraEgress." -}}
{{- end -}}
{{- end }}

{{/* httpsProxy: one way to name integrations, a CA for a gateway, and no second word on what the chart writes. */}}
{{- define "sidekey.validateHttpsProxy" -}}
{{- $values := .values -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- $config := $values.config | default dict -}}
{{- $gateway := eq $values.mode "gateway" -}}
{{- if and $https.integration $https.matchByHost -}}
{{- fail "sidekey: httpsProxy: exactly one of integration and matchByHost must be set: remove integration where each request is to take the one that covers its URL, else matchByHost." -}}
{{- end -}}
{{- if and $gateway $https.on (not $https.caSecret) -}}
{{- fail "sidekey: httpsProxy.caSecret: must name the Secret of a CA for a gateway, whose pods must sign alike: make one with tls.crt and tls.key, such as by cert-manager (helm/examples/gateway-https), since the chart makes none; or set mode: none for a sidecar, which makes its own." -}}
{{- end -}}
{{- if and (not $gateway) $https.caSecret -}}
{{- fail "sidekey: httpsProxy.caSecret: must be empty with mode: none, since each pod's Sidekey makes a CA of its own: remove it." -}}
{{- end -}}
{{- if and (not $https.on) (or $https.java $https.extraRoots) -}}
{{- $needed := $gateway | ternary "httpsProxy.caSecret" "httpsProxy.integration or httpsProxy.matchByHost" -}}
{{- fail (printf "sidekey: httpsProxy.%s: must be left out without %s: set that as well, or remove this." ($https.java | ternary "java" "extraRoots") $needed) -}}
{{- end -}}
{{- if and $https.on $values.httpProxy.integration -}}
{{- fail "sidekey: httpProxy.integration: must be empty with httpsProxy, which sets HTTP_PROXY too: remove it." -}}
{{- end -}}
{{- include "sidekey.validateIntegration" (merge (dict "place" "httpsProxy.integration" "id" $https.integration) .) -}}
{{- range $index, $root := $https.extraRoots -}}
{{- if eq (empty $root.configMap) (empty $root.secret) -}}
{{- fail (printf "sidekey: httpsProxy.extraRoots: entry %d must name either a configMap or a secret, and the key of its PEM: such as {configMap: company-ca, key: ca.crt}." (add $index 1)) -}}
{{- end -}}
{{- end -}}
{{- if $https.on -}}
{{- range $key, $_ := $config.ca | default dict -}}
{{- if ne $key "hosts" -}}
{{- fail (printf "sidekey: config.ca.%s: must be left out with httpsProxy, where the chart writes it: remove it; see httpsProxy.caSecret and httpsProxy.extraRoots." $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $https.matchByHost (eq (get (get $config "forward" | default dict) "match_by_host" | toString) "false") -}}
{{- fail "sidekey: config.forward.match_by_host: must not be false with httpsProxy.matchByHost: remove one of them." -}}
{{- end -}}
{{- end }}

{{/* "id" in the dict, which the value at "place" is, must be an integration; of configSources the chart cannot know it. */}}
{{- define "sidekey.validateIntegration" -}}
{{- $integrations := get (.values.config | default dict) "integrations" | default dict -}}
{{- if and .id (not .values.configSources) (not (hasKey $integrations .id)) -}}
{{- fail (printf "sidekey: %s: must be an ID in config.integrations; %s is none of: %s." .place .id (keys $integrations | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- end }}

{{- define "sidekey.validateVolumes" -}}
{{- $names := dict -}}
{{- range .values.extraVolumes -}}
{{- if hasPrefix "sidekey-" .name -}}
{{- fail (printf "sidekey: extraVolumes: the name %s must not begin with sidekey-, as those of Sidekey's own volumes: choose another." .name) -}}
{{- end -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: extraVolumes: the name %s is given twice: choose another for one of them." .name) -}}
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
{{- $taken = merge $taken (dict "/run/sidekey/state" "the local CA" "/run/sidekey/ca" "the CA" "/run/sidekey/trust" "the trust folder" "/run/sidekey/extra-roots" "the extra roots") -}}
{{- $taken = merge $taken (dict "/run/sidekey/store" "the store's keys" "/run/sidekey/operators" "the operators' tokens") -}}
{{- $_ := set $taken "/run/sidekey/console" "the console's certificate" -}}
{{- if get (include "sidekey.store" . | fromJson) "embedded" -}}
{{- $_ := set $taken "/var/lib/sidekey" "the store" -}}
{{- end -}}
{{- $mounts := include "sidekey.mounts" . | fromJsonArray -}}
{{- range .values.extraVolumeMounts -}}
{{- $mounts = append $mounts (dict "list" "extraVolumeMounts" "name" .name "path" .mountPath) -}}
{{- end -}}
{{- range $mounts -}}
{{- $mount := . -}}
{{- $path := clean .path -}}
{{- range $other, $what := $taken -}}
{{- if or (hasPrefix (printf "%s/" (trimSuffix "/" $path)) (printf "%s/" $other)) (hasPrefix (printf "%s/" (trimSuffix "/" $other)) (printf "%s/" $path)) -}}
{{- fail (printf "sidekey: %s: %s is mounted at %s, and %s at %s: one must not be inside of the other: give one of them another mountPath." $mount.list $mount.name $mount.path $what $other) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $taken $path (printf "%s of %s" .name .list) -}}
{{- end -}}
{{- end }}

{{- define "sidekey.validateVariables" -}}
{{- $names := dict "SIDEKEY_CONFIG" "the chart's own" -}}
{{- range .values.env -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: env: the variable %s already exists (%s): choose another name." .name (get $names .name)) -}}
{{- end -}}
{{- $_ := set $names .name "an entry above" -}}
{{- end -}}
{{- end }}

{{/* A label of the chart that is written twice: which one counts depends on the reader. */}}
{{- define "sidekey.validateLabels" -}}
{{- $values := .values -}}
{{- $own := include "sidekey.labels" . | fromYaml | merge (include "sidekey.selectorLabels" . | fromYaml) -}}
{{- $labels := dict "podLabels" $values.podLabels "metrics.labels" $values.metrics.labels -}}
{{- $labels = merge $labels (dict "prometheusRule.labels" $values.prometheusRule.labels "dashboard.labels" $values.dashboard.labels) -}}
{{- range $place, $given := $labels -}}
{{- range $label, $_ := $given -}}
{{- if hasKey $own $label -}}
{{- fail (printf "sidekey: %s: %s belongs to the chart: remove it (nameOverride sets app.kubernetes.io/name)." $place $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if hasKey ($values.podAnnotations | default dict) "sidekey/listen" -}}
{{- fail "sidekey: podAnnotations: sidekey/listen belongs to the chart: remove it." -}}
{{- end -}}
{{- end }}

{{/* The variables of the service's container must fit the config. */}}
{{- define "sidekey.validateEnv" -}}
{{- $values := .values -}}
{{- if eq $values.mode "gateway" -}}
{{- fail "sidekey: mode: must be none in a chart that adds Sidekey to its own pods; gateway makes a Deployment of its own." -}}
{{- end -}}
{{- if not (or $values.config $values.configSources) -}}
{{- fail "sidekey: config: is missing for this sidecar: write its integrations, such as config: {integrations: {crm: {...}}}, or name ConfigMaps in configSources." -}}
{{- end -}}
{{- include "sidekey.validateIntegration" (merge (dict "place" "httpProxy.integration" "id" $values.httpProxy.integration) .) -}}
{{- include "sidekey.validateHttpsProxy" . -}}
{{- if and $values.callers (not (hasKey $values.callers ($values.caller | default ""))) -}}
{{- fail (printf "sidekey: caller: must say which of the callers this service is: %s." (keys $values.callers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $proxied := or (get ($values.httpProxy | default dict) "integration") (get (include "sidekey.httpsProxy" . | fromJson) "on") -}}
{{- if and (get (include "sidekey.store" . | fromJson) "on") $proxied (not $values.caller) -}}
{{- fail "sidekey: caller: must be set with a store, where every request needs a token: add this service to callers, with the Secret that holds its token, and name it here." -}}
{{- end -}}
{{- if and $values.caller (not $values.callers) -}}
{{- fail (printf "sidekey: caller: %s must be one of callers, and there are none: add it there, or remove this." $values.caller) -}}
{{- end -}}
{{- end }}
