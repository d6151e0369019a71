{{/* CONNECT: the local CA, the CAs that callers trust, and the variables of the service's container. */}}

{{/*
The values of `httpsProxy` as JSON, without nulls, and `on`. For a gateway, a CA is enough for `on`, because its callers
may name an integration themselves.
*/}}
{{- define "sidekey.httpsProxy" -}}
{{- $given := .values.httpsProxy | default dict -}}
{{- $found := dict "integration" ($given.integration | default "") "matchByHost" ($given.matchByHost | default false) -}}
{{- $found = merge $found (dict "caSecret" ($given.caSecret | default "") "java" ($given.java | default false)) -}}
{{- $_ := set $found "on" (not (empty (or $found.integration $found.matchByHost $found.caSecret))) -}}
{{- $_ := set $found "extraRoots" ($given.extraRoots | default list) -}}
{{- $found | toJson -}}
{{- end }}

{{/*
The section `ca` of the config, as JSON. A sidecar makes a CA for its pod, in memory that outlives its container. The
operator provides a gateway's CA: all its pods must sign with the same one, and Helm would make a new one at each
upgrade.
*/}}
{{- define "sidekey.ca" -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- $ca := dict "trust_folder" "/run/sidekey/trust" -}}
{{- if $https.caSecret -}}
{{- $_ := set $ca "certificate" (dict "file" "/run/sidekey/ca/tls.crt") -}}
{{- $_ := set $ca "private_key" (dict "file" "/run/sidekey/ca/tls.key") -}}
{{- else -}}
{{- $_ := set $ca "folder" "/run/sidekey/state" -}}
{{- end -}}
{{- $roots := list -}}
{{- range $index, $_ := $https.extraRoots -}}
{{- $roots = append $roots (dict "file" (printf "/run/sidekey/extra-roots/%d.pem" $index)) -}}
{{- end -}}
{{- if $roots -}}
{{- $_ := set $ca "extra_roots" $roots -}}
{{- end -}}
{{- $ca | toJson -}}
{{- end }}

{{/* Only Sidekey's container mounts these volumes, except the trust folder, which contains no key. */}}
{{- define "sidekey.caVolumes" -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- if $https.caSecret }}
- name: sidekey-ca
  secret:
    secretName: {{ $https.caSecret | quote }}
    defaultMode: 292
    {{- if .check }}
    optional: true
    {{- end }}
{{- else if $https.on }}
- name: sidekey-state
  emptyDir:
    medium: Memory
    sizeLimit: 4Mi
{{- end }}
{{- if $https.extraRoots }}
- name: sidekey-extra-roots
  projected:
    defaultMode: 292
    sources:
      {{- range $index, $root := $https.extraRoots }}
      - {{ $root.secret | empty | ternary "configMap" "secret" }}:
          name: {{ $root.secret | default $root.configMap | quote }}
          items:
            - key: {{ $root.key | default "ca.crt" | quote }}
              path: {{ printf "%d.pem" $index | quote }}
          {{- if $.check }}
          optional: true
          {{- end }}
      {{- end }}
{{- end }}
{{- if $https.on }}
- name: sidekey-trust
  emptyDir:
    sizeLimit: 64Mi
{{- end }}
{{- end }}

{{- define "sidekey.caVolumeMounts" -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- if $https.caSecret }}
- name: sidekey-ca
  mountPath: /run/sidekey/ca
  readOnly: true
{{- else if $https.on }}
- name: sidekey-state
  mountPath: /run/sidekey/state
{{- end }}
{{- if $https.extraRoots }}
- name: sidekey-extra-roots
  mountPath: /run/sidekey/extra-roots
  readOnly: true
{{- end }}
{{- if $https.on }}
- name: sidekey-trust
  mountPath: /run/sidekey/trust
{{- end }}
{{- end }}

{{/*
For a service's own chart: an entry for `volumeMounts` of the service's container; empty without httpsProxy. It is
read-only, because whoever can write there decides which CAs the service trusts. Its path is the one that Sidekey writes
into `wgetrc`.
*/}}
{{- define "sidekey.trustMount" -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- if $https.on -}}
- name: sidekey-trust
  mountPath: /run/sidekey/trust
  readOnly: true
{{- end -}}
{{- end }}

{{/*
The variables with which a service sends its requests through its sidecar, as a JSON list: the same as from `sidekey env
--shell k8s`, except that NO_PROXY has more entries. A test compares the two.

With httpProxy alone, only HTTP_PROXY and NO_PROXY. Names are in upper and lower case, because curl reads only http_proxy.
The token is not a value of the chart: the kubelet expands $(SIDEKEY_TOKEN), which comes from a Secret, and
$(KUBERNETES_SERVICE_HOST), the API server, which exists even with enableServiceLinks: false. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#environment-variables
*/}}
{{- define "sidekey.proxyVariables" -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson -}}
{{- $id := $https.integration | default (get (.values.httpProxy | default dict) "integration") -}}
{{- $variables := list -}}
{{- if or $id $https.on -}}
{{- $user := $id | default (.values.caller | empty | ternary "" "-") -}}
{{- $password := .values.caller | empty | ternary "x" "$(SIDEKEY_TOKEN)" -}}
{{- $url := printf "http://%s127.0.0.1:15080" ($user | empty | ternary "" (printf "%s:%s@" $user $password)) -}}
{{- $cluster := list ".svc" (printf ".%s" .values.clusterDomain) "$(KUBERNETES_SERVICE_HOST)" -}}
{{- $direct := concat (list "localhost" "127.0.0.1" "::1") $cluster (.values.httpProxy.noProxy | default list) | uniq -}}
{{- $proxies := $https.on | ternary (list "HTTP_PROXY" "HTTPS_PROXY") (list "HTTP_PROXY") -}}
{{- range $proxies -}}
{{- $variables = concat $variables (list (dict "name" . "value" $url) (dict "name" (lower .) "value" $url)) -}}
{{- end -}}
{{- range list "NO_PROXY" "no_proxy" -}}
{{- $variables = append $variables (dict "name" . "value" (join "," $direct)) -}}
{{- end -}}
{{- if $https.on -}}
{{- $variables = append $variables (dict "name" "NODE_USE_ENV_PROXY" "value" "1") -}}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "CURL_CA_BUNDLE" "GIT_SSL_CAINFO" "PIP_CERT" "npm_config_cafile" "AWS_CA_BUNDLE" "CARGO_HTTP_CAINFO" "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE" "HTTPLIB2_CA_CERTS" -}}
{{- $variables = append $variables (dict "name" . "value" "/run/sidekey/trust/bundle.pem") -}}
{{- end -}}
{{- range list "NODE_EXTRA_CA_CERTS" "DENO_CERT" -}}
{{- $variables = append $variables (dict "name" . "value" "/run/sidekey/trust/ca.pem") -}}
{{- end -}}
{{- $variables = append $variables (dict "name" "WGETRC" "value" "/run/sidekey/trust/wgetrc") -}}
{{- if $https.java -}}
{{- $options := include "sidekey.javaOptions" (merge (dict "direct" $direct) .) -}}
{{- $variables = append $variables (dict "name" "JAVA_TOOL_OPTIONS" "value" $options) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $variables | toJson -}}
{{- end }}

{{/*
The value of JAVA_TOOL_OPTIONS; "direct" in the dict is NO_PROXY as a list. In http.nonProxyHosts, a name does not include
its subdomains, IPv6 addresses are in brackets, and networks are not supported. The JDK sends no Basic credentials with a
CONNECT unless disabledSchemes is empty.
*/}}
{{- define "sidekey.javaOptions" -}}
{{- $hosts := list "127.*" -}}
{{- range .direct -}}
{{- if contains "/" . -}}
{{- else if eq . "$(KUBERNETES_SERVICE_HOST)" -}}
{{- $hosts = append $hosts (eq $.values.ipFamily "IPv6" | ternary (printf "[%s]" .) .) -}}
{{- else if regexMatch "^[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$" . -}}
{{- $hosts = append $hosts (printf "[%s]" .) -}}
{{- else if or (eq . "*") (regexMatch "^[0-9]+(\\.[0-9]+){3}$" .) -}}
{{- $hosts = append $hosts . -}}
{{- else -}}
{{- $name := regexReplaceAll "^[*.]+" . "" -}}
{{- $hosts = concat $hosts (list $name (printf "*.%s" $name)) -}}
{{- end -}}
{{- end -}}
{{- $options := list "http.proxyHost=127.0.0.1" "http.proxyPort=15080" "https.proxyHost=127.0.0.1" "https.proxyPort=15080" -}}
{{- $options = append $options (printf "http.nonProxyHosts=%s" (uniq $hosts | join "|")) -}}
{{- $options = append $options "jdk.http.auth.tunneling.disabledSchemes=" -}}
{{- $options = append $options "javax.net.ssl.trustStore=/run/sidekey/trust/truststore.p12" -}}
{{- $options = append $options "javax.net.ssl.trustStoreType=PKCS12" -}}
-D{{ join " -D" $options }}
{{- end }}

{{/* Notes on HTTPS_PROXY for NOTES.txt. */}}
{{- define "sidekey.httpsNotes" -}}
{{- $https := include "sidekey.httpsProxy" . | fromJson }}
{{- $gateway := eq .values.mode "gateway" }}
{{- $list := $gateway | ternary "the callers' NO_PROXY" "httpProxy.noProxy" }}
{{- $forward := get (.values.config | default dict) "forward" | default dict }}
{{- if ne (get $forward "unmatched" | toString) "pass" -}}
Sidekey denies hosts that no integration covers: list hosts to call directly in {{ $list }}, or
set config.forward.unmatched: pass.
{{ end -}}
NO_PROXY lists hosts to call without Sidekey, and so without a credential.
{{- if $gateway }}
Add loopback, .svc, .{{ .values.clusterDomain }}, Services that are called by one label, and hosts of gRPC.
{{- else }}
It already has loopback, .svc, .{{ .values.clusterDomain }} and the API server. Add Services that are called by one label, and
hosts of gRPC, to {{ $list }}.
{{- end }}
Callers read trusted CAs once, at their start: restart them when a CA is added, for example
{{ $gateway | ternary "with a new root." "for the host of a new integration. Sidekey's log says when." }}
{{- if and $https.java (or $https.integration .values.callers) }}
Java sends no proxy user by itself: set an Authenticator in its code, or use httpsProxy.matchByHost without callers.
{{- end }}
{{- end }}
