"""Sidekey's own responses: code, status, Proxy-Status error (RFC 9209) and a title that is safe to show.

A denied request also has a reason from a closed list, which is the label of a metric.

A `Problem` is a frozen value: decisions return it, and code that must raise wraps it in a `ProblemError`.
Code that catches a library error turns it into a `Problem` without the library's text, which may hold a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Actor = Literal["caller", "editor", "operator", "provider"]
"""Who can remove the cause of a response: the editor is the author of an integration or a preset."""


class Cause(NamedTuple):
    """A usual cause of a response, and what to do about it: sentences of the documentation, in Markdown."""

    meaning: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ResponseKind:
    """A row of the response table. The first status and the first error are the defaults.

    `retry` says whether to send the request again, and `remedy` what to do first. `causes` lacks
    denials: `causes_of` returns all causes.
    """

    code: str
    statuses: tuple[int, ...]
    errors: tuple[str, ...]
    title: str
    actors: tuple[Actor, ...]
    retry: str
    remedy: str
    causes: tuple[Cause, ...] = ()


_SAME_RESPONSE: Final = "No, not without a change."
_IF_NOT_SENT: Final = "Yes, if `sent` is `no`, or if the request may take effect twice."
_AFTER_PAUSE: Final = "Yes, after `Retry-After`."


_RESPONSE_KINDS = (
    ResponseKind(
        "integration_required",
        (407, 403),
        ("http_request_denied",),
        "The request must name an integration",
        ("caller",),
        "Yes, with the ID. Clients do so after a 407.",
        "Add the integration's ID to the request.",
    ),
    ResponseKind(
        "caller_denied",
        (401, 407, 403),
        ("http_request_denied",),
        "The caller's token, certificate or JWT is missing or wrong",
        ("caller", "operator"),
        "Yes, with valid credentials. Clients do so after a 407.",
        "Give the caller and Sidekey the same token, or renew the caller's JWT or certificate.",
    ),
    ResponseKind(
        "integration_denied",
        (403,),
        ("http_request_denied",),
        "This caller may not use this integration",
        ("caller", "operator"),
        _SAME_RESPONSE,
        (
            "Correct the ID, or allow the caller to use the integration. The response does not say whether the ID "
            "exists; the metric does."
        ),
    ),
    ResponseKind(
        "door_denied",
        (403,),
        ("http_request_denied",),
        "Requests from browsers and for foreign hosts are refused",
        ("caller", "operator"),
        _SAME_RESPONSE,
        "Call Sidekey from a service, under a name of its listener.",
    ),
    ResponseKind(
        "target_denied",
        (403,),
        ("http_request_denied",),
        "The target is outside the integration's policy",
        ("caller", "editor"),
        _SAME_RESPONSE,
        "Correct the target, or allow it in the integration. `sidekey explain ID URL` names the rule.",
    ),
    ResponseKind(
        "destination_denied",
        (403,),
        ("destination_ip_prohibited",),
        "Connecting to the target's address is not allowed",
        ("caller", "editor", "operator"),
        _SAME_RESPONSE,
        "Find out why the host has this address. Set `allow_private` only if that is intended.",
    ),
    ResponseKind(
        "request_invalid",
        (400, 417),
        ("http_request_error",),
        "The request is malformed or ambiguous",
        ("caller",),
        _SAME_RESPONSE,
        "Correct what `detail` names in the client.",
        (
            Cause(
                ("The request breaks HTTP/1.1, such as two different lengths, or a field that must not be repeated."),
                "Use a standard HTTP client, and do not set framing headers by hand.",
            ),
            Cause(
                "A WebSocket handshake breaks RFC 6455, or bytes follow it before the response.",
                "Use a standard WebSocket client.",
            ),
            Cause("A WebSocket handshake expects `100-continue` (417).", "Send the handshake without `Expect`."),
            Cause(
                "The signature covers a header that is missing or repeated.",
                "Send the header that `detail` names once.",
            ),
        ),
    ),
    ResponseKind(
        "not_found",
        (404,),
        ("http_request_error",),
        "No such path: use /i/{id}/... or configure Sidekey as HTTP_PROXY",
        ("caller",),
        _SAME_RESPONSE,
        "Correct the base URL of the client.",
        (
            Cause(
                "The path at the reverse proxy begins with neither `/i/ID` nor `/p/ID`.",
                "Put `/i/ID` of an integration, or `/p/ID` of a preset, in front of the path.",
            ),
            Cause(
                "The client uses Sidekey as a server, but was meant to use it as a proxy.",
                "Set `HTTP_PROXY`, or the client's own proxy setting: `sidekey env ID` prints it.",
            ),
        ),
    ),
    ResponseKind(
        "method_denied",
        (405,),
        ("http_request_denied",),
        "The method is not allowed",
        ("caller", "editor"),
        _SAME_RESPONSE,
        "Use a method that the response lists in `Allow`.",
    ),
    ResponseKind(
        "request_timeout",
        (408,),
        ("http_request_error",),
        "The request came too slowly",
        ("caller",),
        _IF_NOT_SENT,
        "Find out why the caller stalls, or why its network is slow.",
        (
            Cause(
                "The head did not arrive within `timeouts.request_head`.",
                "Send the whole head at once. Raise the limit only for slow networks.",
            ),
            Cause(
                "The caller sent nothing of the body for `timeouts.idle`.",
                "Send the body without pauses, or raise the limit.",
            ),
            Cause(
                "Sidekey holds the body to sign it, and it came at less than 16 KiB/s.",
                "Prepare the body before you send it.",
            ),
        ),
    ),
    ResponseKind(
        "request_too_large",
        (413, 414, 431),
        ("http_request_error",),
        "The request is over a limit",
        ("caller", "operator"),
        _SAME_RESPONSE,
        "Send less, or raise the limit that `detail` names.",
        (
            Cause(
                "The body is over `limits.request_body`, or over `limits.signed_body` if it is signed (413).",
                "Split the upload, or raise the limit. Signed bodies are held in memory.",
            ),
            Cause(
                "The parameters of a preset are over `limits.preset_parameters` (413).",
                "Send fewer parameters in one request.",
            ),
            Cause(
                "The target is over `limits.target` (414).",
                "Move parameters from the query into the body, if the API allows it.",
            ),
            Cause(
                "The head is over `limits.request_head` or `limits.headers`, or so are trailers (431).",
                "Look for large cookies or tokens.",
            ),
            Cause(
                "`Connection`, `Via` or a similar field has more than 256 members (431).",
                "Correct the client, or the proxies that add to them.",
            ),
        ),
    ),
    ResponseKind(
        "body_unsupported",
        (415,),
        ("http_request_denied",),
        "The credential cannot be added to this body",
        ("caller",),
        _SAME_RESPONSE,
        "Send a body that Sidekey can extend or sign.",
    ),
    ResponseKind(
        "not_implemented",
        (501, 505),
        ("http_request_error",),
        "Sidekey does not support what the request needs",
        ("caller", "editor"),
        _SAME_RESPONSE,
        "Use HTTP/1.1 without what `detail` names.",
        (
            Cause(
                "The request has another protocol or version than HTTP/1.1 and HTTP/1.0 (505).",
                "Turn off HTTP/2 with prior knowledge in the client.",
            ),
            Cause(
                "`Transfer-Encoding` has another coding than `chunked` (501).",
                "Send the body chunked, or with `Content-Length`.",
            ),
            Cause(
                "`Upgrade` names another protocol than WebSocket (501).", "Omit it. Sidekey ignores `h2c` and `TLS`."
            ),
            Cause("The integration does not enable WebSocket (501).", "Set `upgrade: [websocket]` in the integration."),
            Cause("A WebSocket was requested without an integration (501).", "Name an integration."),
        ),
    ),
    ResponseKind(
        "ca_unavailable",
        (502,),
        ("proxy_configuration_error",),
        "No valid local CA may sign for the host",
        ("operator",),
        "No, until an operator has repaired the CA.",
        "Run `sidekey ca show`, and read the log.",
        (
            Cause(
                "There is no local CA: its folder cannot be written, or the configured CA cannot be read.",
                "Correct what the log names. See docs/https-proxy.md.",
            ),
            Cause("The local CA has expired.", "Replace it: `sidekey ca rotate`, or the files of `ca`."),
            Cause(
                "The CA's certificate cannot be used for TLS.", "Replace it by a CA certificate with its matching key."
            ),
        ),
    ),
    ResponseKind(
        "misdirected",
        (421,),
        ("http_request_error",),
        "A request in a tunnel names another host than the tunnel's",
        ("caller",),
        "Yes, in a tunnel to the right host.",
        "Open a tunnel for each host.",
    ),
    ResponseKind(
        "preset_denied",
        (403,),
        ("http_request_denied",),
        "This caller may not use this preset",
        ("caller", "operator"),
        _SAME_RESPONSE,
        "Correct the ID, or allow the caller to use the preset.",
    ),
    ResponseKind(
        "content_type_denied",
        (415,),
        ("http_request_denied",),
        "The preset does not accept this Content-Type or content coding",
        ("caller",),
        _SAME_RESPONSE,
        "Send the Content-Type that `detail` names.",
    ),
    ResponseKind(
        "parameters_invalid",
        (422,),
        ("http_request_error",),
        "The parameters are not valid for the preset",
        ("caller", "editor"),
        _SAME_RESPONSE,
        "Correct each parameter that `errors` lists.",
        (
            Cause(
                "A parameter is missing, unknown, or of the wrong type or form.",
                "Compare it with the preset: `sidekey preset list`, or its page in the console.",
            ),
            Cause("The payload is not a JSON object, or a name occurs twice.", "Serialize it with a JSON library."),
            Cause(
                (
                    "The filled URL is over `limits.target`, or the filled body or headers are over "
                    "`limits.preset_body`."
                ),
                "Send shorter values, or let an operator raise the limit.",
            ),
        ),
    ),
    ResponseKind(
        "loop_detected",
        (502,),
        ("proxy_loop_detected",),
        "The request has already passed through Sidekey",
        ("editor", "operator"),
        _SAME_RESPONSE,
        "Remove the loop.",
    ),
    ResponseKind(
        "credential_unavailable",
        (502,),
        ("proxy_internal_error", "proxy_configuration_error"),
        "The integration has no valid credential now",
        ("editor", "operator", "provider"),
        "Yes, once the cause is removed. With `Retry-After`, not earlier.",
        "Test the integration: the result names the setting and the reason.",
        (
            Cause(
                "A secret's file, variable or command gives no value.",
                "Correct it. `sidekey check` lists each secret that cannot be read.",
            ),
            Cause(
                "The token endpoint or the login refused the client, its secret or its scope.",
                "Enter the credential again. docs/tokens.md#when-there-is-no-token explains each response.",
            ),
            Cause(
                "The token endpoint or the login cannot be reached, or limits requests.",
                "Wait. Sidekey tries again by itself, with growing pauses.",
            ),
            Cause(
                "The client certificate expired, was not fetched, or does not fit its key.",
                "Replace it. See docs/certificates.md#when-there-is-no-certificate.",
            ),
            Cause("`trusted_ca`, or a value of `proxy`, cannot be read.", "Correct the file that `detail` names."),
            Cause("The config was reloaded while the request waited.", "Send the request again."),
            Cause("A preset does not fit its integration any more.", "Open the preset in the console, and correct it."),
            Cause(
                "With `forward.unmatched: pass`, the targets of an integration cannot be read.",
                "Correct the integration that `sidekey list` shows as unusable.",
            ),
        ),
    ),
    ResponseKind(
        "upstream_unreachable",
        (502, 504),
        ("connection_refused", "dns_error", "dns_timeout", "destination_unavailable"),
        "The upstream cannot be reached",
        ("provider", "operator"),
        _IF_NOT_SENT,
        "Check the host name, and whether the host is up.",
        (
            Cause(
                "The name does not exist, or DNS fails (`dns_error`, `dns_timeout`).",
                (
                    "Correct the host, or let Sidekey reach DNS. If only a parent proxy can resolve it, set "
                    "`resolve: proxy`."
                ),
            ),
            Cause(
                "The host refused the connection (`connection_refused`).",
                "Check the port, and whether the server runs.",
            ),
            Cause(
                "There is no route to the host, or a firewall rejects it (`destination_unavailable`).",
                "Allow the connection in the firewall or NetworkPolicy.",
            ),
            Cause(
                "The parent proxy cannot connect to it (502, 503 or 504 to CONNECT).",
                "Read the proxy's log, or wait for the upstream.",
            ),
            Cause(
                "`source_address` is not an address of this machine, or fits no address of the host.",
                "Correct `source_address`.",
            ),
        ),
    ),
    ResponseKind(
        "upstream_tls_failed",
        (502,),
        ("tls_protocol_error", "tls_certificate_error", "tls_alert_received"),
        "No trusted TLS connection to the upstream",
        ("editor", "operator", "provider"),
        "No, until the certificate or the trust is corrected.",
        "Check the certificate of the host, and which CA Sidekey trusts.",
        (
            Cause(
                "The certificate expired, has another name, or its CA is unknown (`tls_certificate_error`).",
                "Set `trusted_ca` for a private CA. Otherwise the provider must renew the certificate.",
            ),
            Cause(
                "A firewall intercepts TLS (`tls_certificate_error`).",
                "Exempt the host. If you trust the firewall's CA, it sees the credential.",
            ),
            Cause(
                "The upstream rejects the client certificate, or requires one (`tls_alert_received`).",
                "Register the certificate at the provider, or configure `client_certificate`.",
            ),
            Cause(
                "The upstream does not speak TLS 1.2 or newer on this port (`tls_protocol_error`).",
                "Correct the port. The provider must enable TLS 1.2.",
            ),
            Cause(
                "The upstream closed the connection during TLS (`tls_protocol_error`).",
                "Check `client_certificate`, and a firewall between.",
            ),
        ),
    ),
    ResponseKind(
        "upstream_protocol_error",
        (502,),
        ("http_protocol_error", "http_response_incomplete", "connection_terminated"),
        "The upstream's response is invalid",
        ("provider", "editor"),
        _IF_NOT_SENT,
        "Check the host name and the port, and tell the provider.",
        (
            Cause(
                "The upstream closed the connection before or during its response.",
                "Look for restarts, a load balancer with a short limit, or a crash at this request.",
            ),
            Cause(
                "The response breaks HTTP/1.1, or its head is over `limits.response_head`.",
                "Check that the port speaks HTTP/1.1. Raise the limit for long headers.",
            ),
            Cause(
                "With `redact_response`, the response has a content coding that Sidekey cannot read.",
                "Ask the upstream for `gzip`, or for no coding.",
            ),
            Cause(
                "The upstream's response to a WebSocket handshake is invalid.",
                "Check that the URL is a WebSocket endpoint.",
            ),
        ),
    ),
    ResponseKind(
        "upstream_timeout",
        (504,),
        ("http_response_timeout", "connection_timeout"),
        "The upstream took too long",
        ("provider", "operator"),
        _IF_NOT_SENT,
        "Check whether the host is slow, or raise the timeout that fits the cause.",
        (
            Cause(
                "No connection within `timeouts.connect`.",
                "A firewall may drop packets: allow the connection. With a parent proxy, read its log.",
            ),
            Cause("No response within `timeouts.response`.", "Raise it, if the API is slow by nature."),
            Cause(
                "The upstream read no more of the request within `timeouts.write`.",
                "Look for an overloaded upstream or network.",
            ),
            Cause("The response paused for longer than `timeouts.idle`.", "Raise it for streams with long pauses."),
            Cause(
                "The exchange took longer than `timeouts.total`.",
                "Raise it for long downloads, or set `0s` for no limit.",
            ),
        ),
    ),
    ResponseKind(
        "parent_proxy_failed",
        (502, 504),
        (
            "http_protocol_error",
            "http_request_denied",
            "proxy_configuration_error",
            "connection_refused",
            "connection_terminated",
            "connection_timeout",
            "destination_unavailable",
            "dns_error",
            "dns_timeout",
            "tls_protocol_error",
            "tls_certificate_error",
            "tls_alert_received",
        ),
        "The parent proxy opened no tunnel to the upstream",
        ("operator",),
        _IF_NOT_SENT,
        "Correct `proxy` in the config, or the proxy itself.",
        (
            Cause(
                "The proxy requires or rejects a user (407, `proxy_configuration_error`).",
                "Set `username` and `password`. Sidekey reads a changed file at once.",
            ),
            Cause(
                "The proxy's address is not allowed (`proxy_configuration_error`).",
                "Set `network.allow_private`, if the proxy is meant to have this address.",
            ),
            Cause(
                "The proxy denies the upstream (403, `http_request_denied`).",
                (
                    "Allow host and port at the proxy, in Squid with `SSL_ports`. If it allows names only, set "
                    "`resolve: proxy`."
                ),
            ),
            Cause(
                "No valid response to CONNECT (`http_protocol_error`, `connection_terminated`).",
                "Correct `url`: it must be an HTTP proxy, with the right scheme.",
            ),
            Cause(
                "Sidekey cannot reach the proxy (`connection_...`, `destination_unavailable`, `dns_...`).",
                "Correct `url`, or allow the connection in the firewall or NetworkPolicy.",
            ),
            Cause(
                "There is no trusted TLS connection to an `https://` proxy (`tls_...`).", "Set `trusted_ca` of `proxy`."
            ),
        ),
    ),
    ResponseKind(
        "store_unavailable",
        (503,),
        ("proxy_internal_error",),
        "The store has not been read yet: retry later",
        ("operator",),
        _AFTER_PAUSE,
        "Make the database reachable. See docs/store.md#when-it-cannot-be-reached.",
        (
            Cause(
                "Since its start, Sidekey has not read the store, and no file has the object.",
                "Read `/readyz` and the log: they name the reason. Objects of files work meanwhile.",
            ),
        ),
    ),
    ResponseKind(
        "issuer_unavailable",
        (503,),
        ("proxy_internal_error",),
        "The keys to verify the JWT are not here yet: retry later",
        ("operator", "provider"),
        _AFTER_PAUSE,
        "Make the JWT issuer's keys reachable. See docs/callers.md#keys.",
        (
            Cause(
                "Sidekey cannot fetch the issuer's JWKS, and has no recent one.",
                "Correct `jwks.url` of `jwt_issuers`, its `trusted_ca` or the network. The log names the reason.",
            ),
            Cause(
                "The JWT was signed with a new key that Sidekey has not fetched yet.",
                "Wait: Sidekey fetches the keys again.",
            ),
            Cause(
                "A file that `jwt_issuers` names cannot be read.",
                "Make the file readable that the log names.",
            ),
        ),
    ),
    ResponseKind(
        "overloaded",
        (503,),
        ("connection_limit_reached",),
        "A limit is reached or Sidekey is stopping: retry later",
        ("operator", "caller"),
        _AFTER_PAUSE,
        "Send more slowly, or raise the limit that `detail` names.",
        (
            Cause(
                (
                    "`limits.in_flight` of Sidekey or of the integration is reached. One of several origins may "
                    "use half, as may one caller's WebSockets at an origin."
                ),
                "Look for a slow upstream first: its requests fill the limit.",
            ),
            Cause(
                "`limits.held_bodies` is reached. One integration may use half.",
                "Send fewer large signed bodies at once, or raise it.",
            ),
            Cause(
                "`limits.tunnels` is reached. One of several callers may use half.",
                "Close idle tunnels and WebSockets, or raise it.",
            ),
            Cause(
                "No file descriptor, socket or local port is left.",
                "Raise `NOFILE`. If no local port is left, spread the load over several machines.",
            ),
            Cause(
                ("Too many certificates for new hosts wait to be signed, or one took longer than `timeouts.connect`."),
                "Retry. If it lasts, give Sidekey more CPU.",
            ),
            Cause("Sidekey is stopping.", "Retry: another process serves, or this one after its restart."),
        ),
    ),
    ResponseKind(
        "internal_error",
        (500,),
        ("proxy_internal_error",),
        "A defect in Sidekey",
        ("operator",),
        _IF_NOT_SENT,
        "Report it with the log's `defect` line, which has the request's ID.",
        (Cause("Sidekey has a defect.", "Update Sidekey. If it occurs again, open an issue."),),
    ),
)

RESPONSE_KINDS: Mapping[str, ResponseKind] = MappingProxyType({kind.code: kind for kind in _RESPONSE_KINDS})

Denial = Literal[
    "integration_missing",
    "token_missing",
    "token_unknown",
    "jwt_invalid",
    "certificate_unknown",
    "certificate_invalid",
    "integration_unknown",
    "integration_unlisted",
    "preset_unknown",
    "preset_unlisted",
    "browser",
    "foreign_host",
    "outside_prefix",
    "outside_domains",
    "outside_path",
    "outside_policy",
    "nothing_allowed",
    "not_covered",
    "token_endpoint",
    "trailing_dot",
    "pass_ports",
    "ca_hosts",
    "copy_source",
    "metadata_address",
    "own_listener",
    "parent_proxy",
    "private_address",
    "local_name",
    "method_not_allowed",
    "method_of_preset",
    "trace",
    "content_type",
    "body_not_extended",
    "payload_not_signed",
    "target_malformed",
    "path_ambiguous",
    "names_differ",
    "parameter_injected",
    "parameters_unreadable",
    "other_host",
    "loop",
]
"""Why a request was denied: the label of a metric, never part of a response."""


@dataclass(frozen=True, slots=True)
class DenialReason:
    """A row of the denial table: the response codes that a denial may have, its meaning and what to do."""

    denial: Denial
    codes: tuple[str, ...]
    meaning: str
    remedy: str


_DENIAL_REASONS = (
    DenialReason(
        "integration_missing",
        ("integration_required",),
        "The request names no integration.",
        (
            "Name it in the path `/i/ID/...`, in `X-Integration-Id` or as the proxy user. A client that waits for "
            "a 407 causes one denial per connection, which is harmless."
        ),
    ),
    DenialReason(
        "token_missing",
        ("caller_denied",),
        "The request has no caller's token.",
        (
            "Send it in `Sidekey-Token` or as the proxy user's password. A client that waits for a 407 causes one "
            "denial per connection, which is harmless."
        ),
    ),
    DenialReason(
        "token_unknown",
        ("caller_denied",),
        "The token, or the subject of the JWT, belongs to no caller.",
        (
            "Compare the caller's token with `callers.NAME.token`: perhaps only one of the two was rotated. "
            "Otherwise someone is guessing tokens."
        ),
    ),
    DenialReason(
        "jwt_invalid",
        ("caller_denied",),
        "The JWT is not valid: it expired, or is not for Sidekey.",
        (
            "Compare `iss`, `aud` and `exp` of the JWT with `jwt_issuers`, and the clocks. `detail` says which of "
            "them is wrong."
        ),
    ),
    DenialReason(
        "certificate_unknown",
        ("caller_denied",),
        "The client certificate belongs to no caller, and there is no token.",
        "Compare the certificate's alternative names with `callers.NAME.certificate.san`.",
    ),
    DenialReason(
        "certificate_invalid",
        ("caller_denied",),
        "The client certificate expired, or its CA is no longer trusted.",
        "Present the new certificate: the connection was opened with one that has ended. Or restore its CA.",
    ),
    DenialReason(
        "integration_unknown",
        ("integration_denied",),
        "There is no integration with this ID.",
        "Compare the ID with `sidekey list`: the caller mistyped it, or the integration was renamed.",
    ),
    DenialReason(
        "integration_unlisted",
        ("integration_denied",),
        "The caller's `integrations` do not list this ID.",
        "Add the ID to `callers.NAME.integrations`, if the caller may use it.",
    ),
    DenialReason(
        "preset_unknown",
        ("preset_denied",),
        "There is no preset with this ID.",
        "Compare the ID with `sidekey preset list`.",
    ),
    DenialReason(
        "preset_unlisted",
        ("preset_denied",),
        "The caller's `presets` do not list this ID.",
        "Add the ID to `callers.NAME.presets`, if the caller may use it.",
    ),
    DenialReason(
        "browser",
        ("door_denied",),
        "A web page sent the request (Sec-Fetch-Site, Origin).",
        "Find out which page sends the request: web pages must not use Sidekey.",
    ),
    DenialReason(
        "foreign_host",
        ("door_denied",),
        "The request's `Host` is not a name of this listener.",
        (
            "Add the name to `listen.names`, if it belongs to this listener. Otherwise it is an attack through a "
            "browser (DNS rebinding)."
        ),
    ),
    DenialReason(
        "outside_prefix",
        ("target_denied",),
        "The target is not under any `endpoint_prefix`.",
        "Widen `endpoint_prefix`, if the credential may go there.",
    ),
    DenialReason(
        "outside_domains",
        ("target_denied",),
        "The target is not under any of `allowed_domains`.",
        "Extend `allowed_domains`, if the credential may go there.",
    ),
    DenialReason(
        "outside_path",
        ("target_denied",),
        "The target is not under the path that the base URL must have.",
        "Begin the target with the path of the base URL that the login returns.",
    ),
    DenialReason(
        "outside_policy",
        ("target_denied",),
        "The integration allows nothing at the host and port of the CONNECT.",
        "Compare host and port of the CONNECT, in the access log, with the policy.",
    ),
    DenialReason(
        "nothing_allowed",
        ("target_denied",),
        "The integration allows no target.",
        "Give the integration an `endpoint_prefix` or `allowed_domains`.",
    ),
    DenialReason(
        "not_covered",
        ("target_denied",),
        "No integration of the caller covers the target.",
        ("Name the integration, if the caller knows it. Otherwise an editor must allow the target in one of them."),
    ),
    DenialReason(
        "token_endpoint",
        ("target_denied",),
        "The target is a token or login endpoint of the integration.",
        "Find out why the caller wants the token: only Sidekey may call these endpoints.",
    ),
    DenialReason(
        "trailing_dot",
        ("target_denied",),
        "The target's host ends in a dot.",
        "Write the host without the dot.",
    ),
    DenialReason(
        "pass_ports",
        ("target_denied",),
        "The port of a CONNECT is not in `forward.pass_ports`.",
        "Add the port to `forward.pass_ports`, if tunnels to it may pass.",
    ),
    DenialReason(
        "ca_hosts",
        ("ca_unavailable",),
        "The host of a tunnel is not one for which the local CA may sign.",
        "Add the host to `ca.hosts`, or let the caller use the reverse proxy.",
    ),
    DenialReason(
        "copy_source",
        ("target_denied", "request_invalid"),
        "The source of a copy is outside the policy, or Sidekey cannot check it.",
        "Name the source in `X-Amz-Copy-Source` as `/bucket/key`, inside the policy.",
    ),
    DenialReason(
        "metadata_address",
        ("destination_denied",),
        "The host has the address of a cloud metadata service.",
        (
            "Find out who sent the request, and why the name has this address. It is an attack, or an SDK that "
            "reads metadata and needs the address in `NO_PROXY`."
        ),
    ),
    DenialReason(
        "own_listener",
        ("destination_denied",),
        "The host has the address of a listener of Sidekey.",
        "Correct the name or `network.hosts`: the name leads back to Sidekey.",
    ),
    DenialReason(
        "parent_proxy",
        ("destination_denied",),
        "The host has the address of a parent proxy.",
        "Find out who sent the request: only Sidekey may use the proxy.",
    ),
    DenialReason(
        "private_address",
        ("destination_denied",),
        "The host has no global address, and none that `allow_private` allows.",
        (
            "Set `allow_private` only if the upstream is meant to be in a private network. Otherwise someone may "
            "have changed its DNS."
        ),
    ),
    DenialReason(
        "local_name",
        ("destination_denied",),
        "The parent proxy resolves names, and the host's name may mean a private address.",
        "Write the full name of the host, add it to `network.hosts`, or list it in `no_proxy`.",
    ),
    DenialReason(
        "method_not_allowed",
        ("method_denied", "target_denied"),
        (
            "The method, or the one that `_method` or `_HttpMethod` in the query names, is not among the "
            "integration's `methods`."
        ),
        "Add the method to `methods`, if the credential may be used with it.",
    ),
    DenialReason(
        "method_of_preset",
        ("method_denied",),
        "A request to a preset has another method than POST.",
        "Use POST.",
    ),
    DenialReason(
        "trace",
        ("method_denied",),
        "The method is TRACE.",
        "Do not use TRACE: its response repeats the credential.",
    ),
    DenialReason(
        "content_type",
        ("content_type_denied",),
        "The preset does not accept this Content-Type or content coding.",
        "Send what `detail` names.",
    ),
    DenialReason(
        "body_not_extended",
        ("body_unsupported",),
        "The credential cannot be added to this body.",
        "Send a form or a JSON object, of at most `limits.replay_body`, without content coding and digest.",
    ),
    DenialReason(
        "payload_not_signed",
        ("body_unsupported",),
        "The payload cannot be signed as the caller sends it.",
        "Change the SDK's setting that `detail` names.",
    ),
    DenialReason(
        "target_malformed",
        ("request_invalid",),
        "The target is not a URL, or servers may interpret it differently.",
        "Correct what `detail` names. Many different targets indicate a scan.",
    ),
    DenialReason(
        "path_ambiguous",
        ("request_invalid",),
        "Servers may interpret the path as another one.",
        "Correct what `detail` names. Attackers use dot segments and control characters to evade prefixes.",
    ),
    DenialReason(
        "names_differ",
        ("request_invalid",),
        "The request names two different integrations or tokens.",
        "Name integration and token in one place.",
    ),
    DenialReason(
        "parameter_injected",
        ("request_invalid",),
        "The caller sends a parameter that Sidekey adds itself.",
        "Omit the parameter; Sidekey adds it.",
    ),
    DenialReason(
        "parameters_unreadable",
        ("request_invalid",),
        "The caller's and the injected parameters cannot be told apart.",
        "Encode parameters once.",
    ),
    DenialReason(
        "other_host",
        ("misdirected",),
        "A request in a tunnel names another host than the tunnel's.",
        "Open a tunnel for each host (no connection coalescing).",
    ),
    DenialReason(
        "loop",
        ("loop_detected",),
        "The request has already passed through Sidekey.",
        (
            "Check the upstream's address, and `HTTP_PROXY` on the upstream's machine: the upstream sends "
            "requests back to Sidekey."
        ),
    ),
)

DENIAL_REASONS: Mapping[str, DenialReason] = MappingProxyType({reason.denial: reason for reason in _DENIAL_REASONS})


def causes_of(code: str) -> dict[Cause, Denial | None]:
    """Return the causes of a code, each with its denial, if it is one. Denials come first."""
    denials = [reason for reason in _DENIAL_REASONS if code in reason.codes]
    causes: dict[Cause, Denial | None] = {Cause(reason.meaning, reason.remedy): reason.denial for reason in denials}
    return causes | dict.fromkeys(RESPONSE_KINDS[code].causes)


def remedy_of(code: str, denial: Denial | None) -> str:
    """Return what to do about a denial, or in general about a code."""
    return RESPONSE_KINDS[code].remedy if denial is None else DENIAL_REASONS[denial].remedy


ALWAYS_DENIED: Final = frozenset(code for reason in _DENIAL_REASONS for code in reason.codes) - {
    "request_invalid",
    "ca_unavailable",
}
"""Codes whose responses always have a denial. `request_invalid` and `ca_unavailable` may have one, too."""

CALLER_GONE: Final = "caller_gone"
"""Outcome of an exchange whose caller disconnected: logged and counted, without a response."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A response that Sidekey sends itself. `status` and `error` default to the first ones of the code's row.

    The caller sees `detail`: it must not contain a secret, an upstream's address or a library's text.
    `denial` is the label of a metric and no part of the response, so comparisons ignore it. `sent` says whether the
    upstream may have received the request. `errors` lists invalid parts of the body: JSON pointers (RFC 6901) and
    reasons. Raises ValueError if the table does not allow the combination.
    """

    code: str
    detail: str
    status: int = 0
    error: str = ""
    sent: Literal["no", "maybe"] = "no"
    headers: tuple[tuple[str, str], ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    denial: Denial | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        kind = RESPONSE_KINDS[self.code]
        object.__setattr__(self, "status", self.status or kind.statuses[0])
        object.__setattr__(self, "error", self.error or kind.errors[0])
        if self.status not in kind.statuses or self.error not in kind.errors:
            raise ValueError(f"{self.code} must have one of the statuses {kind.statuses} and errors {kind.errors}")
        if self.denial is None:
            if self.code in ALWAYS_DENIED:
                raise ValueError(f"{self.code} must have a denial")
        elif self.code not in DENIAL_REASONS[self.denial].codes:
            raise ValueError(f"{self.denial} must have one of the codes {DENIAL_REASONS[self.denial].codes}")

    @property
    def title(self) -> str:
        """Title from the response table."""
        return RESPONSE_KINDS[self.code].title

    @property
    def phrase(self) -> str:
        """Reason phrase, which is all that many clients show of a response to CONNECT."""
        return f"{self.code}: {self.title}"

    def detail_about(self, peer: str, possessive: str) -> str:
        """Return the detail with another word for the peer, which it calls `the upstream` or `the target`."""
        detail = self.detail
        for name in ("the upstream", "the target"):
            detail = detail.replace(f"{name}'s", possessive).replace(name, peer)
        return detail

    def maybe_sent(self) -> Problem:
        """Copy this problem for a request that the upstream may have received."""
        return replace(self, sent="maybe")


class StartError(Exception):
    """Sidekey cannot start. The message says why and what to do; it holds no secret."""


class ProblemError(Exception):
    """Raises a `Problem` through awaited code to the exchange or handler that responds with it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code, problem.detail)
        self.problem = problem
