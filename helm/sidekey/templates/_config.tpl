{{/* Sidekey's config: `config` of the values, and the keys that the chart sets. */}}

{{/* All host names of the gateway's Service, as a JSON list. Sidekey refuses any other Host (door_denied). */}}
{{- define "sidekey.hosts" -}}
{{- $name := include "sidekey.fullname" . -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $hosts := list $name (printf "%s.%s" $name $namespace) (printf "%s.%s.svc" $name $namespace) -}}
{{- $hosts = append $hosts (printf "%s.%s.svc.%s" $name $namespace .values.clusterDomain) -}}
{{- concat $hosts (.values.service.names | default list) | uniq | toJson -}}
{{- end }}

{{/*
What identifies callers, as JSON: `secrets`, the names of those with a token, and `jwt`, whether one has a ServiceAccount.
*/}}
{{- define "sidekey.identities" -}}
{{- $found := dict "secrets" list "jwt" false -}}
{{- range $name, $caller := .values.callers -}}
{{- if $caller.secret }}{{- $_ := set $found "secrets" (append $found.secrets $name) -}}{{- end -}}
{{- if $caller.serviceAccount }}{{- $_ := set $found "jwt" true -}}{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}

{{/* The TLS of a gateway's port, as JSON. */}}
{{- define "sidekey.listenTls" -}}
{{- $tls := dict -}}
{{- range $key, $file := dict "certificate" "tls.crt" "private_key" "tls.key" -}}
{{- $_ := set $tls $key (dict "file" (printf "/run/sidekey/tls/%s" $file)) -}}
{{- end -}}
{{- with .values.tls.clientAuth -}}
{{- $_ := set $tls "client_ca" (dict "file" "/run/sidekey/tls/ca.crt") -}}
{{- $_ := set $tls "client_auth" . -}}
{{- end -}}
{{- $tls | toJson -}}
{{- end }}

{{/*
The listeners, as JSON. From outside the pod, only metrics, a gateway's proxy and, with a console, its admin listener can
be reached.
*/}}
{{- define "sidekey.listen" -}}
{{- $all := eq .values.ipFamily "IPv6" | ternary "[::]" "0.0.0.0" -}}
{{- $listen := dict "proxy" "127.0.0.1:15080" "admin" "127.0.0.1:15090" "metrics" (printf "%s:15091" $all) -}}
{{- if eq .values.mode "gateway" -}}
{{- $_ := set $listen "proxy" (printf "%s:15080" $all) -}}
{{- $_ := set $listen "names" (include "sidekey.hosts" . | fromJsonArray) -}}
{{- if .values.tls.secret -}}
{{- $_ := set $listen "tls" (include "sidekey.listenTls" . | fromJson) -}}
{{- end -}}
{{- if get (include "sidekey.console" . | fromJson) "on" -}}
{{- $_ := set $listen "admin" (printf "%s:15090" $all) -}}
{{- end -}}
{{- end -}}
{{- $listen | toJson -}}
{{- end }}

{{/*
The time-outs, as JSON. After SIGTERM, a gateway keeps accepting connections until every node knows that the pod is no
longer an endpoint, so it needs no preStop hook. A sidecar gets SIGTERM only after its service has ended.
*/}}
{{- define "sidekey.timeouts" -}}
{{- $delay := eq .values.mode "gateway" | ternary "5s" "0s" -}}
{{- $config := .values.config | default dict -}}
{{- merge (deepCopy ($config.timeouts | default dict)) (dict "drain_delay" $delay "drain" "25s") | toJson -}}
{{- end }}

{{/* Whole seconds of a duration such as 250ms or 5s, rounded up. */}}
{{- define "sidekey.seconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $milliseconds := mul (regexFind "^[0-9]+" . | int64) (get $units (regexFind "[a-z]+$" .)) -}}
{{- div (add $milliseconds 999) 1000 -}}
{{- end }}

{{/*
Grace period of the gateway's pod: the time to drain, and 5 s. With a store, 20 s more, to receive and store the response
to a refresh token in use, which would otherwise be lost.
*/}}
{{- define "sidekey.gracePeriod" -}}
{{- $timeouts := include "sidekey.timeouts" . | fromJson -}}
{{- $store := .values.store | default dict -}}
{{- $stored := or (get ($store.url | default dict) "secret") (get ($store.embedded | default dict) "enabled") -}}
{{- $rest := empty $stored | ternary 5 25 -}}
{{- add (include "sidekey.seconds" $timeouts.drain_delay) (include "sidekey.seconds" $timeouts.drain) $rest -}}
{{- end }}

{{/* The chart's own file of the config, as YAML. */}}
{{- define "sidekey.config" -}}
{{- include "sidekey.validate" . -}}
{{- $config := deepCopy (.values.config | default dict) -}}
{{- $_ := set $config "version" 1 -}}
{{- $_ := set $config "listen" (include "sidekey.listen" . | fromJson) -}}
{{- $_ := set $config "timeouts" (include "sidekey.timeouts" . | fromJson) -}}
{{- $callers := dict -}}
{{- range $name, $caller := .values.callers -}}
{{- $entry := dict "integrations" ($caller.integrations | default list) -}}
{{- if $caller.secret -}}
{{- $_ := set $entry "token" (dict "file" (printf "/run/sidekey/callers/%s" $name)) -}}
{{- end -}}
{{- with $caller.san }}{{- $_ := set $entry "certificate" (dict "san" .) -}}{{- end -}}
{{- with $caller.serviceAccount -}}
{{- $namespace := .namespace | default $.root.Release.Namespace -}}
{{- $_ := set $entry "jwt" (dict "issuer" "cluster" "subject" (printf "system:serviceaccount:%s:%s" $namespace .name)) -}}
{{- end -}}
{{- with $caller.presets }}{{- $_ := set $entry "presets" . -}}{{- end -}}
{{- $_ := set $callers $name $entry -}}
{{- end -}}
{{- if $callers -}}
{{- $_ := set $config "callers" $callers -}}
{{- end -}}
{{- if get (include "sidekey.identities" . | fromJson) "jwt" -}}
{{- $given := .values.serviceAccounts -}}
{{- $cluster := dict "issuer" $given.issuer "audience" $given.audience "jwks" (dict "url" $given.jwksUrl) -}}
{{- $_ := set $cluster "allow_private" $given.allowPrivate -}}
{{- $_ := set $cluster "trusted_ca" (dict "file" "/run/sidekey/cluster/ca.crt") -}}
{{- $_ := set $cluster "token" (dict "file" "/run/sidekey/cluster/token") -}}
{{- $_ := set $config "jwt_issuers" (merge (dict "cluster" $cluster) ($config.jwt_issuers | default dict)) -}}
{{- end -}}
{{- $store := include "sidekey.store" . | fromJson -}}
{{- if $store.on -}}
{{- $_ := set $config "store" (merge (include "sidekey.storeConfig" . | fromJson) ($config.store | default dict)) -}}
{{- end -}}
{{- $admin := include "sidekey.consoleConfig" . | fromJson -}}
{{- if $store.tokens -}}
{{- $tokens := dict -}}
{{- range $store.tokens -}}
{{- $_ := set $tokens .id (dict "token" (dict "file" (printf "/run/sidekey/operators/%s" .id)) "role" .role) -}}
{{- end -}}
{{- $_ := set $admin "tokens" $tokens -}}
{{- end -}}
{{- if $admin -}}
{{- $_ := set $config "admin" (merge $admin ($config.admin | default dict)) -}}
{{- end -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- if $https.on -}}
{{- $_ := set $config "ca" (merge (include "sidekey.ca" . | fromJson) ($config.ca | default dict)) -}}
{{- end -}}
{{- if $https.matchByHost -}}
{{- $_ := set $config "forward" (merge (dict "match_by_host" true) ($config.forward | default dict)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* The ConfigMap's data. Kubernetes refuses more than 1 MiB, but only in the middle of a release. */}}
{{- define "sidekey.configData" -}}
{{- $config := include "sidekey.config" . -}}
{{- if ge (len $config) 1048576 -}}
{{- fail (printf "sidekey: config: must be less than 1048576 bytes as YAML, the limit of a ConfigMap, but is %d: move integrations into ConfigMaps of configSources, or into a store." (len $config)) -}}
{{- end -}}
data:
  sidekey.yaml: |
    {{- $config | nindent 4 }}
{{- end }}

{{/*
The ConfigMap. It is mounted as a folder, never by subPath, so that Sidekey sees each change and reloads it without a
restart. So pods have no checksum annotation.
*/}}
{{- define "sidekey.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "sidekey.metadata" . | nindent 2 }}
{{ include "sidekey.configData" . }}
{{- end }}
