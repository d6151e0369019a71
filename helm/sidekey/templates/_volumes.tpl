{{/*
Volumes that only Sidekey's container mounts, except the trust folder. Files have mode 0444 (292): in a pod without fsGroup
they belong to root, and only Sidekey's process sees them.
*/}}

{{/*
All mounts of Secrets and tokens, as a JSON list of {list, name, path, source}. With "check" in the dict, the pod starts although a
Secret of `secrets` is missing, so that `sidekey check` can name it; the kubelet would only wait until the hook's deadline.
It still waits for Secrets that another operator creates.
*/}}
{{- define "sidekey.mounts" -}}
{{- $check := .check -}}
{{- $mounts := list -}}
{{- range .values.secrets -}}
{{- $secret := dict "secretName" .name "defaultMode" 292 -}}
{{- with .items }}{{ $_ := set $secret "items" . }}{{ end -}}
{{- if or $check .optional }}{{ $_ := set $secret "optional" true }}{{ end -}}
{{- $mounts = append $mounts (dict "list" "secrets" "name" .name "path" .mountPath "source" (dict "secret" $secret)) -}}
{{- end -}}
{{- range .values.externalSecrets -}}
{{- $secret := dict "secretName" .name "defaultMode" 292 -}}
{{- $source := dict "secret" $secret -}}
{{- $mounts = append $mounts (dict "list" "externalSecrets" "name" .name "path" .mountPath "source" $source) -}}
{{- end -}}
{{- range .values.csi -}}
{{- $driver := .driver | default "secrets-store.csi.k8s.io" -}}
{{- $attributes := dict "secretProviderClass" .secretProviderClass -}}
{{- $csi := dict "driver" $driver "readOnly" true "volumeAttributes" $attributes -}}
{{- $mounts = append $mounts (dict "list" "csi" "name" .name "path" .mountPath "source" (dict "csi" $csi)) -}}
{{- end -}}
{{- range .values.serviceAccountTokens -}}
{{- $token := dict "audience" .audience "expirationSeconds" (int (.expirationSeconds | default 3600)) "path" "token" -}}
{{- $source := dict "projected" (dict "defaultMode" 292 "sources" (list (dict "serviceAccountToken" $token))) -}}
{{- $mounts = append $mounts (dict "list" "serviceAccountTokens" "name" .name "path" .mountPath "source" $source) -}}
{{- end -}}
{{- range $mounts -}}
{{- $_ := set . "path" (.path | default (printf "/run/secrets/%s" .name)) -}}
{{- end -}}
{{- $mounts | toJson -}}
{{- end }}

{{/*
The volumes of the pod. "configMap" in the dict is the name of another ConfigMap for the chart's own file.
Each source of the config is one file with its own name, so that no source silently replaces another.
*/}}
{{- define "sidekey.volumes" -}}
- name: sidekey-config
  projected:
    defaultMode: 292
    sources:
      - configMap:
          name: {{ .configMap | default (include "sidekey.fullname" .) | quote }}
          items:
            - key: sidekey.yaml
              path: sidekey.yaml
      {{- range .values.configSources }}
      - configMap:
          name: {{ .configMap | quote }}
          items:
            - key: {{ .key | default "sidekey.yaml" | quote }}
              path: {{ printf "%s.yaml" .name | quote }}
          {{- if or $.check .optional }}
          optional: true
          {{- end }}
      {{- end }}
{{- $identities := include "sidekey.identities" . | fromJson }}
{{- if $identities.secrets }}
- name: sidekey-callers
  projected:
    defaultMode: 292
    sources:
      {{- range $name, $caller := .values.callers }}
      {{- if $caller.secret }}
      - secret:
          name: {{ $caller.secret.name | quote }}
          items:
            - key: {{ $caller.secret.key | default $name | quote }}
              path: {{ $name | quote }}
          {{- if or $.check $caller.secret.optional }}
          optional: true
          {{- end }}
      {{- end }}
      {{- end }}
{{- end }}
{{- if .values.tls.secret }}
- name: sidekey-tls
  secret:
    secretName: {{ .values.tls.secret | quote }}
    defaultMode: 292
    {{- if .check }}
    optional: true
    {{- end }}
{{- end }}
{{- if $identities.jwt }}
- name: sidekey-cluster
  projected:
    defaultMode: 292
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3600
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
{{- end }}
{{- range $index, $mount := include "sidekey.mounts" . | fromJsonArray }}
- name: sidekey-secret-{{ $index }}
  {{- toYaml $mount.source | nindent 2 }}
{{- end }}
{{- include "sidekey.storeVolumes" . }}
{{- include "sidekey.consoleVolumes" . }}
{{- include "sidekey.caVolumes" . }}
{{- /* The containers of a pod share /dev/shm. Sidekey keeps the CAs that it trusts there, so it gets its own. */}}
- name: sidekey-shm
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- $extra := deepCopy (.values.extraVolumes | default list) -}}
{{- if .check -}}
{{- range $extra -}}
{{- range concat (list .) (get (get . "projected" | default dict) "sources" | default list) -}}
{{- range pick . "configMap" "secret" -}}
{{- $_ := set . "optional" true -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $extra }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sidekey.volumeMounts" -}}
- name: sidekey-config
  mountPath: /etc/sidekey
  readOnly: true
{{- $identities := include "sidekey.identities" . | fromJson }}
{{- if $identities.secrets }}
- name: sidekey-callers
  mountPath: /run/sidekey/callers
  readOnly: true
{{- end }}
{{- if .values.tls.secret }}
- name: sidekey-tls
  mountPath: /run/sidekey/tls
  readOnly: true
{{- end }}
{{- if $identities.jwt }}
- name: sidekey-cluster
  mountPath: /run/sidekey/cluster
  readOnly: true
{{- end }}
{{- range $index, $mount := include "sidekey.mounts" . | fromJsonArray }}
- name: sidekey-secret-{{ $index }}
  mountPath: {{ $mount.path }}
  readOnly: true
{{- end }}
{{- include "sidekey.storeVolumeMounts" . }}
{{- include "sidekey.consoleVolumeMounts" . }}
{{- include "sidekey.caVolumeMounts" . }}
- name: sidekey-shm
  mountPath: /dev/shm
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}
