"""Sidekey's own responses: code, status, Proxy-Status error (RFC 9209) and a title that is safe to show.

A denied request also has a reason from a closed list, which is the label of a metric.

A `Problem` is a frozen value: decisions return it, and code that must raise wraps it in a `ProblemError`.
Code that catches a library error turns it into a `Problem` without the library's text, which may hold a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class ResponseKind:
    """A row of the response table. The first status and the first error are the defaults."""

    code: str
    statuses: tuple[int, ...]
    errors: tuple[str, ...]
    title: str


_RESPONSE_KINDS = (
    ResponseKind("integration_required", (407, 403), ("http_request_denied",), "The request must name an integration"),
    ResponseKind("caller_denied", (401, 407, 403), ("http_request_denied",), "The caller's token is missing or wrong"),
    ResponseKind("integration_denied", (403,), ("http_request_denied",), "This caller may not use this integration"),
    ResponseKind(
        "door_denied", (403,), ("http_request_denied",), "Requests from browsers and for foreign hosts are refused"
    ),
    ResponseKind("target_denied", (403,), ("http_request_denied",), "The target is outside the integration's policy"),
    ResponseKind(
        "destination_denied",
        (403,),
        ("destination_ip_prohibited",),
        "Connecting to the target's address is not allowed",
    ),
    ResponseKind("request_invalid", (400, 417), ("http_request_error",), "The request is malformed or ambiguous"),
    ResponseKind(
        "not_found",
        (404,),
        ("http_request_error",),
        "No such path: use /i/{id}/... or configure Sidekey as HTTP_PROXY",
    ),
    ResponseKind("method_denied", (405,), ("http_request_denied",), "The method is not allowed"),
    ResponseKind("request_timeout", (408,), ("http_request_error",), "The request came too slowly"),
    ResponseKind("request_too_large", (413, 414, 431), ("http_request_error",), "The request is over a limit"),
    ResponseKind(
        "body_unsupported",
        (415,),
        ("http_request_denied",),
        "The credential cannot be added to this body",
    ),
    ResponseKind(
        "not_implemented", (501, 505), ("http_request_error",), "Sidekey does not support what the request needs"
    ),
    ResponseKind(
        "ca_unavailable",
        (502,),
        ("proxy_configuration_error",),
        "No valid local CA may sign for the host",
    ),
    ResponseKind(
        "misdirected",
        (421,),
        ("http_request_error",),
        "A request in a tunnel names another host than the tunnel's",
    ),
    ResponseKind("preset_denied", (403,), ("http_request_denied",), "This caller may not use this preset"),
    ResponseKind(
        "content_type_denied",
        (415,),
        ("http_request_denied",),
        "The preset does not accept this Content-Type or content coding",
    ),
    ResponseKind("parameters_invalid", (422,), ("http_request_error",), "The parameters are not valid for the preset"),
    ResponseKind("loop_detected", (502,), ("proxy_loop_detected",), "The request has already passed through Sidekey"),
    ResponseKind(
        "credential_unavailable",
        (502,),
        ("proxy_internal_error", "proxy_configuration_error"),
        "The integration has no valid credential now",
    ),
    ResponseKind(
        "upstream_unreachable",
        (502, 504),
        ("connection_refused", "dns_error", "dns_timeout", "destination_unavailable"),
        "The upstream cannot be reached",
    ),
    ResponseKind(
        "upstream_tls_failed",
        (502,),
        ("tls_protocol_error", "tls_certificate_error", "tls_alert_received"),
        "No trusted TLS connection to the upstream",
    ),
    ResponseKind(
        "upstream_protocol_error",
        (502,),
        ("http_protocol_error", "http_response_incomplete", "connection_terminated"),
        "The upstream's response is invalid",
    ),
    ResponseKind(
        "upstream_timeout",
        (504,),
        ("http_response_timeout", "connection_timeout"),
        "The upstream took too long",
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
    ),
    ResponseKind(
        "store_unavailable",
        (503,),
        ("proxy_internal_error",),
        "The store has not been read yet: retry later",
    ),
    ResponseKind(
        "issuer_unavailable",
        (503,),
        ("proxy_internal_error",),
        "The keys to verify the JWT are not here yet: retry later",
    ),
    ResponseKind(
        "overloaded", (503,), ("connection_limit_reached",), "A limit is reached or Sidekey is stopping: retry later"
    ),
    ResponseKind("internal_error", (500,), ("proxy_internal_error",), "A defect in Sidekey"),
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
    """A row of the denial table: the response codes that a denial may have, and its meaning."""

    denial: Denial
    codes: tuple[str, ...]
    meaning: str


_DENIAL_REASONS = (
    DenialReason("integration_missing", ("integration_required",), "The request names no integration."),
    DenialReason("token_missing", ("caller_denied",), "The request has no caller's token."),
    DenialReason("token_unknown", ("caller_denied",), "The token, or the subject of the JWT, belongs to no caller."),
    DenialReason("jwt_invalid", ("caller_denied",), "The JWT is not valid: it expired, or is not for Sidekey."),
    DenialReason(
        "certificate_unknown", ("caller_denied",), "The client certificate belongs to no caller, and there is no token."
    ),
    DenialReason(
        "certificate_invalid", ("caller_denied",), "The client certificate expired, or its CA is no longer trusted."
    ),
    DenialReason("integration_unknown", ("integration_denied",), "There is no integration with this ID."),
    DenialReason("integration_unlisted", ("integration_denied",), "The caller's `integrations` do not list this ID."),
    DenialReason("preset_unknown", ("preset_denied",), "There is no preset with this ID."),
    DenialReason("preset_unlisted", ("preset_denied",), "The caller's `presets` do not list this ID."),
    DenialReason("browser", ("door_denied",), "A web page sent the request (Sec-Fetch-Site, Origin)."),
    DenialReason("foreign_host", ("door_denied",), "The request's `Host` is not a name of this listener."),
    DenialReason("outside_prefix", ("target_denied",), "The target is not under any `endpoint_prefix`."),
    DenialReason("outside_domains", ("target_denied",), "The target is not under any of `allowed_domains`."),
    DenialReason("outside_path", ("target_denied",), "The target is not under the path that the base URL must have."),
    DenialReason(
        "outside_policy", ("target_denied",), "The integration allows nothing at the host and port of the CONNECT."
    ),
    DenialReason("nothing_allowed", ("target_denied",), "The integration allows no target."),
    DenialReason("not_covered", ("target_denied",), "No integration of the caller covers the target."),
    DenialReason("token_endpoint", ("target_denied",), "The target is a token or login endpoint of the integration."),
    DenialReason("trailing_dot", ("target_denied",), "The target's host ends in a dot."),
    DenialReason("pass_ports", ("target_denied",), "The port of a CONNECT is not in `forward.pass_ports`."),
    DenialReason("ca_hosts", ("ca_unavailable",), "The host of a tunnel is not one for which the local CA may sign."),
    DenialReason(
        "copy_source",
        ("target_denied", "request_invalid"),
        "The source of a copy is outside the policy, or Sidekey cannot check it.",
    ),
    DenialReason("metadata_address", ("destination_denied",), "The host has the address of a cloud metadata service."),
    DenialReason("own_listener", ("destination_denied",), "The host has the address of a listener of Sidekey."),
    DenialReason("parent_proxy", ("destination_denied",), "The host has the address of a parent proxy."),
    DenialReason(
        "private_address",
        ("destination_denied",),
        "The host has no global address, and none that `allow_private` allows.",
    ),
    DenialReason(
        "local_name",
        ("destination_denied",),
        "The parent proxy resolves names, and the host's name may mean a private address.",
    ),
    DenialReason(
        "method_not_allowed",
        ("method_denied", "target_denied"),
        "The method, or the one that `_method` or `_HttpMethod` in the query names, is not among the integration's "
        "`methods`.",
    ),
    DenialReason("method_of_preset", ("method_denied",), "A request to a preset has another method than POST."),
    DenialReason("trace", ("method_denied",), "The method is TRACE."),
    DenialReason(
        "content_type", ("content_type_denied",), "The preset does not accept this Content-Type or content coding."
    ),
    DenialReason("body_not_extended", ("body_unsupported",), "The credential cannot be added to this body."),
    DenialReason("payload_not_signed", ("body_unsupported",), "The payload cannot be signed as the caller sends it."),
    DenialReason(
        "target_malformed", ("request_invalid",), "The target is not a URL, or servers may interpret it differently."
    ),
    DenialReason("path_ambiguous", ("request_invalid",), "Servers may interpret the path as another one."),
    DenialReason("names_differ", ("request_invalid",), "The request names two different integrations or tokens."),
    DenialReason("parameter_injected", ("request_invalid",), "The caller sends a parameter that Sidekey adds itself."),
    DenialReason(
        "parameters_unreadable", ("request_invalid",), "The caller's and the injected parameters cannot be told apart."
    ),
    DenialReason("other_host", ("misdirected",), "A request in a tunnel names another host than the tunnel's."),
    DenialReason("loop", ("loop_detected",), "The request has already passed through Sidekey."),
)

DENIAL_REASONS: Mapping[str, DenialReason] = MappingProxyType({reason.denial: reason for reason in _DENIAL_REASONS})

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
