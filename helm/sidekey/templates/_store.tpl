{{/* The store: its location, its keys, and the tokens of its operators. */}}

{{/*
The values of `store` and `admin` as JSON, without nulls: `on` (true if there is a store), `embedded` (its values, or
false), `url` (the Secret, or empty), and `keys` and `tokens` as lists of {id, secret, key}, tokens also with `role`.
*/}}
{{- define "sidekey.store" -}}
{{- $given := .values.store | default dict -}}
{{- $embedded := $given.embedded | default dict -}}
{{- $found := dict "embedded" ($embedded.enabled | default false | ternary $embedded false) "url" dict -}}
{{- with get ($given.url | default dict) "secret" -}}
{{- $_ := set $found "url" (dict "name" .name "key" (.key | default "url")) -}}
{{- end -}}
{{- $keys := list -}}
{{- range get $given "keys" | default list -}}
{{- $keys = append $keys (dict "id" .id "secret" .secret.name "key" (.secret.key | default .id)) -}}
{{- end -}}
{{- $_ := set $found "keys" $keys -}}
{{- $tokens := list -}}
{{- range $name, $token := get (.values.admin | default dict) "tokens" | default dict -}}
{{- $tokens = append $tokens (dict "id" $name "secret" $token.secret.name "key" ($token.secret.key | default $name) "role" $token.role) -}}
{{- end -}}
{{- $_ := set $found "tokens" $tokens -}}
{{- $_ := set $found "on" (not (empty (or $found.embedded $found.url))) -}}
{{- $found | toJson -}}
{{- end }}

{{/* The section `store` of the config, as JSON. */}}
{{- define "sidekey.storeConfig" -}}
{{- $store := include "sidekey.store" . | fromJson -}}
{{- $keys := list -}}
{{- range $store.keys -}}
{{- $keys = append $keys (dict "id" .id "key" (dict "file" (printf "/run/sidekey/store/keys/%s" .id))) -}}
{{- end -}}
{{- $config := dict "keys" $keys -}}
{{- if $store.embedded -}}
{{- $_ := set $config "path" "/var/lib/sidekey/store.db" -}}
{{- else -}}
{{- $_ := set $config "url" (dict "file" "/run/sidekey/store/url") -}}
{{- end -}}
{{- $config | toJson -}}
{{- end }}

{{/* The name of the embedded store's claim. */}}
{{- define "sidekey.claim" -}}
{{- $store := include "sidekey.store" . | fromJson -}}
{{- get $store.embedded "existingClaim" | default (printf "%s-store" (include "sidekey.fullname" .)) -}}
{{- end }}

{{/*
Keys and URL are in one volume, tokens in another. Keys are sorted here and their order is in the config only, so that
putting another key first is a reload, not a rollout. The config check opens no store, so it mounts no volume of one.
*/}}
{{- define "sidekey.storeVolumes" -}}
{{- $store := include "sidekey.store" . | fromJson -}}
{{- if $store.on }}
- name: sidekey-store
  projected:
    defaultMode: 292
    sources:
      {{- $paths := dict -}}
      {{- range $store.keys -}}
      {{- $_ := set $paths (printf "keys/%s" .id) (dict "name" .secret "key" .key) -}}
      {{- end -}}
      {{- if $store.url -}}
      {{- $_ := set $paths "url" $store.url -}}
      {{- end }}
      {{- range $path, $source := $paths }}
      - secret:
          name: {{ $source.name | quote }}
          items:
            - key: {{ $source.key | quote }}
              path: {{ $path | quote }}
          {{- if $.check }}
          optional: true
          {{- end }}
      {{- end }}
{{- end }}
{{- if $store.tokens }}
- name: sidekey-operators
  projected:
    defaultMode: 292
    sources:
      {{- range $store.tokens }}
      - secret:
          name: {{ .secret | quote }}
          items:
            - key: {{ .key | quote }}
              path: {{ .id | quote }}
          {{- if $.check }}
          optional: true
          {{- end }}
      {{- end }}
{{- end }}
{{- if and $store.embedded (not .check) }}
- name: sidekey-data
  persistentVolumeClaim:
    claimName: {{ include "sidekey.claim" . | quote }}
{{- end }}
{{- end }}

{{- define "sidekey.storeVolumeMounts" -}}
{{- $store := include "sidekey.store" . | fromJson -}}
{{- if $store.on }}
- name: sidekey-store
  mountPath: /run/sidekey/store
  readOnly: true
{{- end }}
{{- if $store.tokens }}
- name: sidekey-operators
  mountPath: /run/sidekey/operators
  readOnly: true
{{- end }}
{{- if and $store.embedded (not .check) }}
- name: sidekey-data
  mountPath: /var/lib/sidekey
{{- end }}
{{- end }}
