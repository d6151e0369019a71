{{/* The console: the admin listener at a host name of its own, by TLS, for browsers. */}}

{{/*
What `console` says, as JSON, none of it null: whether browsers reach it (`on`), `host`, `tlsSecret` (the Secret of the
certificate that Sidekey presents, or empty), `behindTls`, `annotations` (of the Service), and `ingress` (false, or
what it says).
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

{{/* What the section `admin` of the config says of it, as JSON. */}}
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

{{/* A renewed Secret is reloaded: it is mounted as a folder. */}}
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

{{/* What Sidekey would refuse when it starts, and what would let nobody in: each with what to set. */}}
{{- define "sidekey.validateConsole" -}}
{{- $console := include "sidekey.console" . | fromJson -}}
{{- if and (not $console.on) (or $console.tlsSecret $console.behindTls $console.ingress $console.annotations) -}}
{{- fail "sidekey: console.host: must be the host name at which browsers reach the console, such as sidekey.example.com: set it, or remove the rest of console." -}}
{{- end -}}
{{- if $console.on -}}
{{- if ne .values.mode "gateway" -}}
{{- fail "sidekey: console.host: must be empty with mode: none, since a sidecar's admin listener is at the loopback of a pod that is another's: remove it, and run a gateway on the same store for the console." -}}
{{- end -}}
{{- if not (get (include "sidekey.store" . | fromJson) "on") -}}
{{- fail "sidekey: console.host: must be empty without a store, which the console is for and which has the tokens of those who log in: set store.url or store.embedded.enabled, and store.keys; or remove it." -}}
{{- end -}}
{{- if not (or $console.tlsSecret $console.behindTls) -}}
{{- fail "sidekey: console: needs TLS, since others can reach it and tokens must not travel in the clear: set console.tls.secretName where Sidekey presents the certificate, console.behindTls: true where an ingress does, or both where an ingress connects by https." -}}
{{- end -}}
{{- end -}}
{{- end }}
