{{/* Checks that values.schema.json cannot express: conflicts between values. Each message names the value and what to do. */}}

{{- define "sidekey.validate" -}}
{{- $values := .values -}}
{{- if and (eq $values.mode "gateway") (not $values.callers) (not (get (include "sidekey.store" . | fromJson) "on")) -}}
{{- fail "sidekey: callers: a gateway needs at least one caller, or a store, which has its own callers. Name each caller and the Secret that contains its token, such as callers: {billing: {secret: {name: sidekey-callers}, integrations: [crm]}}; or set store; or set mode: none and add Sidekey to the pods of your own chart." -}}
{{- end -}}
{{- $gateway := eq $values.mode "gateway" -}}
{{- if and $values.tls.secret (not $gateway) -}}
{{- fail "sidekey: tls.secret: only a gateway has TLS, because a sidecar listens on the pod's loopback: remove it." -}}
{{- end -}}
{{- if and $values.tls.clientAuth (not $values.tls.secret) -}}
{{- fail "sidekey: tls.clientAuth: needs tls.secret, the Secret with the gateway's certificate and the CA of client certificates." -}}
{{- end -}}
{{- range $name, $caller := $values.callers -}}
{{- if and $caller.san (not $values.tls.clientAuth) -}}
{{- fail (printf "sidekey: callers.%s.san: needs tls.clientAuth: set it to require or optional." $name) -}}
{{- end -}}
{{- if and (not $gateway) (not $caller.secret) -}}
{{- fail (printf "sidekey: callers.%s.secret: a caller of a sidecar needs the Secret with its token." $name) -}}
{{- end -}}
{{- if and $caller.serviceAccount (not $values.tls.secret) -}}
{{- fail (printf "sidekey: callers.%s.serviceAccount: needs tls.secret, because whoever reads its token on the way can use it." $name) -}}
{{- end -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail (printf "sidekey: autoscaling: minReplicas (%d) must be at most maxReplicas (%d)." (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- $resources := $values.resources | default dict -}}
{{- if and (eq $values.mode "gateway") $values.autoscaling.enabled (not (or (dig "requests" "cpu" "" $resources) (dig "limits" "cpu" "" $resources))) -}}
{{- fail "sidekey: autoscaling: needs resources.requests.cpu, because its target is a share of the requested CPU: set it." -}}
{{- end -}}
{{- if and (eq $values.mode "none") (eq $values.metrics.monitor "ServiceMonitor") -}}
{{- fail "sidekey: metrics.monitor: must be PodMonitor with mode: none, because a sidecar has no Service." -}}
{{- end -}}
{{- if and (eq $values.metrics.monitor "ServiceMonitor") (eq (int $values.service.port) 15091) -}}
{{- fail "sidekey: service.port: must not be 15091, which is the Service's metrics port with metrics.monitor: ServiceMonitor: choose another port." -}}
{{- end -}}
{{- $names := dict "sidekey" "the chart's own file" -}}
{{- range $values.configSources -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: configSources: the name %s is already used by %s: choose another name." .name (get $names .name)) -}}
{{- end -}}
{{- $_ := set $names .name "a source above" -}}
{{- end -}}
{{- include "sidekey.validateHttpsProxy" . -}}
{{- include "sidekey.validateStore" . -}}
{{- include "sidekey.validateConsole" . -}}
{{- include "sidekey.validateParentProxy" . -}}
{{- include "sidekey.validateProcesses" . -}}
{{- include "sidekey.validateVolumes" . -}}
{{- include "sidekey.validateMounts" . -}}
{{- include "sidekey.validateVariables" . -}}
{{- include "sidekey.validateLabels" . -}}
{{- end }}

{{/*
The integrations of `config` that only one process may use, as a JSON dict from ID to the reason: the provider replaces
the refresh token at each use, or keeps only one token of a client valid. Processes with a store in PostgreSQL share
these tokens.
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
{{- $_ := set $found $id "the provider may replace its refresh token at each use; if it does not, set rotates: false under grant" -}}
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
{{- $why := printf "because only one process may use the integration %s (%s)" $id $reason -}}
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

{{/* store: checks that the schema cannot express. The schema refuses two stores, and two pods on one file. */}}
{{- define "sidekey.validateStore" -}}
{{- $values := .values -}}
{{- $store := include "sidekey.store" . | fromJson -}}
{{- $seen := dict -}}
{{- range $store.keys -}}
{{- if hasKey $seen .id -}}
{{- fail (printf "sidekey: store.keys: two keys have the ID %s: give each key its own ID." .id) -}}
{{- end -}}
{{- $_ := set $seen .id true -}}
{{- end -}}
{{- if and (get ($values.config | default dict) "store") (not $store.on) -}}
{{- fail "sidekey: config.store: must be omitted without a store: set store.url or store.embedded.enabled, and store.keys." -}}
{{- end -}}
{{- $policy := $values.networkPolicy -}}
{{- if and (eq $values.mode "gateway") $store.url $policy.enabled (not (get ($policy.database | default dict) "to")) (not $policy.extraEgress) -}}
{{- fail "sidekey: networkPolicy.database.to: must name the database of store.url, because otherwise the NetworkPolicy keeps pods from it, such as [{podSelector: {matchLabels: {app: postgres}}}] or [{ipBlock: {cidr: 10.1.2.3/32}}]; or add a rule to networkPolicy.extraEgress." -}}
{{- end -}}
{{- end }}

{{/* A NetworkPolicy must let the pods reach the parent proxies in `config`. The default allows port 443 only. */}}
{{- define "sidekey.validateParentProxy" -}}
{{- $values := .values -}}
{{- $policy := $values.networkPolicy -}}
{{- $config := $values.config | default dict -}}
{{- $places := dict "config.network" (get $config "network" | default dict) -}}
{{- range $id, $integration := get $config "integrations" | default dict -}}
{{- $_ := set $places (printf "config.integrations.%s" $id) (kindIs "map" $integration | ternary $integration dict) -}}
{{- end -}}
{{- if and (eq $values.mode "gateway") $policy.enabled (not (get ($policy.parentProxy | default dict) "to")) (not $policy.extraEgress) -}}
{{- range $place, $section := $places -}}
{{- $proxy := get $section "proxy" -}}
{{- if and (kindIs "map" $proxy) (not (hasSuffix ":443" (get $proxy "url" | toString | trimSuffix "/"))) -}}
{{- fail (printf "sidekey: networkPolicy.parentProxy.to: must name the proxy in %s.proxy, because otherwise the NetworkPolicy keeps pods from it, such as [{ipBlock: {cidr: 10.1.2.3/32}}], with its port; or add a rule to networkPolicy.extraEgress." $place) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* httpsProxy: one way to choose integrations, a CA for a gateway, and no value for a key that the chart sets. */}}
{{- define "sidekey.validateHttpsProxy" -}}
{{- $values := .values -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- $config := $values.config | default dict -}}
{{- $gateway := eq $values.mode "gateway" -}}
{{- if and $https.integration $https.matchByHost -}}
{{- fail "sidekey: httpsProxy: only one of integration and matchByHost may be set: remove integration if each request should use the integration that covers its URL, otherwise remove matchByHost." -}}
{{- end -}}
{{- if and $gateway $https.on (not $https.caSecret) -}}
{{- fail "sidekey: httpsProxy.caSecret: must name the Secret of a CA for a gateway, because all its pods must sign with the same CA, and the chart creates none: create a Secret with tls.crt and tls.key, for example with cert-manager (helm/examples/gateway-https); or set mode: none for a sidecar, which makes its own CA." -}}
{{- end -}}
{{- if and (not $gateway) $https.caSecret -}}
{{- fail "sidekey: httpsProxy.caSecret: must be empty with mode: none, because the Sidekey of each pod makes its own CA: remove it." -}}
{{- end -}}
{{- if and (not $https.on) (or $https.java $https.extraRoots) -}}
{{- $needed := $gateway | ternary "httpsProxy.caSecret" "httpsProxy.integration or httpsProxy.matchByHost" -}}
{{- fail (printf "sidekey: httpsProxy.%s: has no effect without %s: set that too, or remove this." ($https.java | ternary "java" "extraRoots") $needed) -}}
{{- end -}}
{{- if and $https.on $values.httpProxy.integration -}}
{{- fail "sidekey: httpProxy.integration: must be empty with httpsProxy, which sets HTTP_PROXY too: remove it." -}}
{{- end -}}
{{- include "sidekey.validateIntegration" (merge (dict "place" "httpsProxy.integration" "id" $https.integration) .) -}}
{{- range $index, $root := $https.extraRoots -}}
{{- if eq (empty $root.configMap) (empty $root.secret) -}}
{{- fail (printf "sidekey: httpsProxy.extraRoots: entry %d must name a configMap or a secret, and the key with the PEM, such as {configMap: company-ca, key: ca.crt}." (add $index 1)) -}}
{{- end -}}
{{- end -}}
{{- if $https.on -}}
{{- range $key, $_ := $config.ca | default dict -}}
{{- if ne $key "hosts" -}}
{{- fail (printf "sidekey: config.ca.%s: must be omitted with httpsProxy, because the chart sets it: remove it; see httpsProxy.caSecret and httpsProxy.extraRoots." $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $https.matchByHost (eq (get (get $config "forward" | default dict) "match_by_host" | toString) "false") -}}
{{- fail "sidekey: config.forward.match_by_host: must not be false with httpsProxy.matchByHost: remove one of them." -}}
{{- end -}}
{{- end }}

{{/* Check that "id", the value at "place", is an integration. The chart cannot read the integrations of configSources. */}}
{{- define "sidekey.validateIntegration" -}}
{{- $integrations := get (.values.config | default dict) "integrations" | default dict -}}
{{- if and .id (not .values.configSources) (not (hasKey $integrations .id)) -}}
{{- fail (printf "sidekey: %s: must be an ID in config.integrations, but %s is not one of: %s." .place .id (keys $integrations | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- end }}

{{- define "sidekey.validateVolumes" -}}
{{- $names := dict -}}
{{- range .values.extraVolumes -}}
{{- if hasPrefix "sidekey-" .name -}}
{{- fail (printf "sidekey: extraVolumes: the name %s must not begin with sidekey-, like the names of Sidekey's own volumes: choose another name." .name) -}}
{{- end -}}
{{- if hasKey $names .name -}}
{{- fail (printf "sidekey: extraVolumes: two volumes have the name %s: choose another name for one of them." .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- end -}}
{{- end }}

{{/*
Refuse two mounts at the same path, and a mount inside another: the kubelet cannot create the inner folder in a read-only
volume, and a volume over the config would hide it.
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
{{- fail (printf "sidekey: %s: %s is mounted at %s, and %s at %s: one must not be inside the other: use another mountPath for one of them." $mount.list $mount.name $mount.path $what $other) -}}
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

{{/* Refuse labels that the chart sets: of a duplicate key, each YAML parser may use another value. */}}
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

{{/* Check that the variables of the service's container fit the config. */}}
{{- define "sidekey.validateEnv" -}}
{{- $values := .values -}}
{{- if eq $values.mode "gateway" -}}
{{- fail "sidekey: mode: must be none in a chart that adds Sidekey to its own pods: gateway renders a separate Deployment." -}}
{{- end -}}
{{- if not (or $values.config $values.configSources) -}}
{{- fail "sidekey: config: is missing for this sidecar: set its integrations, such as config: {integrations: {crm: {...}}}, or name ConfigMaps in configSources." -}}
{{- end -}}
{{- include "sidekey.validateIntegration" (merge (dict "place" "httpProxy.integration" "id" $values.httpProxy.integration) .) -}}
{{- include "sidekey.validateHttpsProxy" . -}}
{{- if and $values.callers (not (hasKey $values.callers ($values.caller | default ""))) -}}
{{- fail (printf "sidekey: caller: must be the name of this service in callers: one of %s." (keys $values.callers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- $proxied := or (get ($values.httpProxy | default dict) "integration") (get (include "sidekey.httpsProxy" . | fromJson) "on") -}}
{{- if and (get (include "sidekey.store" . | fromJson) "on") $proxied (not $values.caller) -}}
{{- fail "sidekey: caller: must be set with a store, because every request then needs a token: add this service to callers, with the Secret that contains its token, and set its name here." -}}
{{- end -}}
{{- if and $values.caller (not $values.callers) -}}
{{- fail (printf "sidekey: caller: %s must be in callers, which is empty: add it to callers, or remove this." $values.caller) -}}
{{- end -}}
{{- end }}
