{{/* The console: the admin listener for browsers, at its own host name over TLS. */}}

{{/*
The values of `console` as JSON, without nulls: `on` (true if browsers reach it), `host`, `tlsSecret` (the Secret with the
certificate that Sidekey presents, or empty), `behindTls`, `annotations` (of the Service), and `ingress` (its values, or
false).
*/}}
{{- define "sidekey.console" -}}
{{- $given := .values.console | default dict -}}
{{- $found := dict "host" ($given.host | default "") "behindTls" ($given.behindTls | default false) -}}
{{- $_ := set $found "tlsSecret" (get ($given.tls | default dict) "secretName" | default "") -}}
{{- $_ := set $found "annotations" (get ($given.service | default dict) "annotations" | default dict) -}}
{{- $ingress := $given.ingress | default dict -}}
{{- $_ := set $found "ingress" ($ingress.enabled | default false | ternary $ingress false) -}}
{{- $_ := set $found "on" (not (empty $found.host)) -}}
{{- $found | toJson -}}
{{- end }}

{{/* The keys of `admin` in the config for the console, as JSON. */}}
{{- define "sidekey.consoleConfig" -}}
{{- $console := include "sidekey.console" . | fromJson -}}
{{- $config := dict -}}
{{- if $console.on -}}
{{- $further := get (get (.values.config | default dict) "admin" | default dict) "names" | default list -}}
{{- $_ := set $config "names" (concat (list $console.host) $further | uniq) -}}
{{- with $console.tlsSecret -}}
{{- $certificate := dict "file" "/run/sidekey/console/tls.crt" -}}
{{- $_ := set $config "tls" (dict "certificate" $certificate "private_key" (dict "file" "/run/sidekey/console/tls.key")) -}}
{{- end -}}
{{- if $console.behindTls -}}
{{- $_ := set $config "behind_tls" true -}}
{{- end -}}
{{- end -}}
{{- $config | toJson -}}
{{- end }}

{{/* Mounted as a folder, so that Sidekey can reload a renewed Secret. */}}
{{- define "sidekey.consoleVolumes" -}}
{{- with get (include "sidekey.console" . | fromJson) "tlsSecret" }}
- name: sidekey-console
  secret:
    secretName: {{ . | quote }}
    defaultMode: 292
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
    {{- if $.check }}
    optional: true
    {{- end }}
{{- end }}
{{- end }}

{{- define "sidekey.consoleVolumeMounts" -}}
{{- if get (include "sidekey.console" . | fromJson) "tlsSecret" }}
- name: sidekey-console
  mountPath: /run/sidekey/console
  readOnly: true
{{- end }}
{{- end }}

{{/* Refuse values with which Sidekey would not start, or with which nobody could log in. */}}
{{- define "sidekey.validateConsole" -}}
{{- $console := include "sidekey.console" . | fromJson -}}
{{- if and (not $console.on) (or $console.tlsSecret $console.behindTls $console.ingress $console.annotations) -}}
{{- fail "sidekey: console.host: must be the host name of the console for browsers, such as sidekey.example.com: set it, or remove the other values of console." -}}
{{- end -}}
{{- if $console.on -}}
{{- if ne .values.mode "gateway" -}}
{{- fail "sidekey: console.host: must be empty with mode: none, because a sidecar's admin listener is on the loopback of the service's pod: remove it, and run a gateway on the same store for the console." -}}
{{- end -}}
{{- if not (get (include "sidekey.store" . | fromJson) "on") -}}
{{- fail "sidekey: console.host: must be empty without a store, which contains what the console edits and the tokens that people log in with: set store.url or store.embedded.enabled, and store.keys; or remove it." -}}
{{- end -}}
{{- if not (or $console.tlsSecret $console.behindTls) -}}
{{- fail "sidekey: console: needs TLS, because tokens must not travel unencrypted: set console.tls.secretName if Sidekey presents the certificate, console.behindTls: true if an ingress does, or both if an ingress connects by https." -}}
{{- end -}}
{{- end -}}
{{- end }}
