"""Every response of Sidekey's own: code, status, Proxy-Status error (RFC 9209) and a title that is safe to show.

A `Problem` is a frozen value: decisions return it, and `ProblemError` carries it where it has to be raised.
Library errors are mapped to one where they happen, without their text: it may hold a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of responses. The first status and the first error are the usual ones."""

    code: str
    statuses: tuple[int, ...]
    errors: tuple[str, ...]
    title: str


_KINDS = (
    Kind("integration_required", (407, 403), ("http_request_denied",), "The request must name an integration"),
    Kind("caller_denied", (401, 407, 403), ("http_request_denied",), "The caller's token is missing or wrong"),
    Kind("integration_denied", (403,), ("http_request_denied",), "This caller may not use this integration"),
    Kind("door_denied", (403,), ("http_request_denied",), "Requests of browsers and for foreign hosts are refused"),
    Kind("target_denied", (403,), ("http_request_denied",), "The target is outside the integration's policy"),
    Kind(
        "destination_denied",
        (403,),
        ("destination_ip_prohibited",),
        "Connecting to the target's address is not allowed",
    ),
    Kind("request_invalid", (400,), ("http_request_error",), "The request is malformed or ambiguous"),
    Kind(
        "not_found",
        (404,),
        ("http_request_error",),
        "No such path: use /i/{id}/... or configure Sidekey as HTTP_PROXY",
    ),
    Kind("method_denied", (405,), ("http_request_denied",), "The method is not allowed"),
    Kind("request_timeout", (408,), ("http_request_error",), "The request came too slowly"),
    Kind("request_too_large", (413, 414, 431), ("http_request_error",), "The request is over a limit"),
    Kind(
        "credential_unplaceable",
        (415,),
        ("http_request_denied",),
        "The credential cannot be added to this body",
    ),
    Kind("not_implemented", (501, 505), ("http_request_error",), "Sidekey does not support what the request needs"),
    Kind(
        "ca_unavailable",
        (502,),
        ("proxy_configuration_error",),
        "No valid local CA may sign for the host",
    ),
    Kind(
        "misdirected",
        (421,),
        ("http_request_error",),
        "A request in a tunnel names another host than the tunnel's",
    ),
    Kind("preset_denied", (403,), ("http_request_denied",), "This caller may not use this preset"),
    Kind(
        "content_type_denied",
        (415,),
        ("http_request_denied",),
        "The preset does not accept this Content-Type or content coding",
    ),
    Kind("parameters_invalid", (422,), ("http_request_error",), "The parameters are not what the preset asks for"),
    Kind("loop_detected", (502,), ("proxy_loop_detected",), "The request went through Sidekey before"),
    Kind(
        "credential_unavailable",
        (502,),
        ("proxy_internal_error", "proxy_configuration_error"),
        "The integration has no valid credential now",
    ),
    Kind(
        "upstream_unreachable",
        (502, 504),
        ("connection_refused", "dns_error", "dns_timeout", "destination_unavailable"),
        "The upstream cannot be reached",
    ),
    Kind(
        "upstream_tls_failed",
        (502,),
        ("tls_protocol_error", "tls_certificate_error", "tls_alert_received"),
        "No trusted TLS connection to the upstream",
    ),
    Kind(
        "upstream_protocol_error",
        (502,),
        ("http_protocol_error", "http_response_incomplete", "connection_terminated"),
        "The upstream's response is invalid",
    ),
    Kind(
        "upstream_timeout",
        (504,),
        ("http_response_timeout", "connection_timeout"),
        "The upstream took too long",
    ),
    Kind("overloaded", (503,), ("connection_limit_reached",), "A limit is reached or Sidekey is stopping: retry later"),
    Kind("internal_error", (500,), ("proxy_internal_error",), "A defect of Sidekey"),
)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.code: kind for kind in _KINDS})

CALLER_GONE: Final = "caller_gone"
"""Outcome of an exchange whose caller left: logged and counted; no response is sent."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A response of our own, as a value. Left out, `status` and `error` are the first of the code's row.

    `detail` is shown to the caller: never a secret, an upstream's address or text of a library.
    `sent` says whether the upstream may have seen the request. `errors` are what is wrong with parts of the body: JSON
    pointers (RFC 6901) and reasons.
    """

    code: str
    detail: str
    status: int = 0
    error: str = ""
    sent: Literal["no", "maybe"] = "no"
    headers: tuple[tuple[str, str], ...] = ()
    errors: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        kind = KINDS[self.code]
        object.__setattr__(self, "status", self.status or kind.statuses[0])
        object.__setattr__(self, "error", self.error or kind.errors[0])
        if self.status not in kind.statuses or self.error not in kind.errors:
            raise ValueError(f"{self.code} must have one of the statuses {kind.statuses} and errors {kind.errors}")

    @property
    def title(self) -> str:
        """The table's words for this code."""
        return KINDS[self.code].title

    @property
    def phrase(self) -> str:
        """What many clients show of the response to a CONNECT, and nothing else of it: a fixed text for each code."""
        return f"{self.code}: {self.title}"

    def maybe_sent(self) -> Problem:
        """The same problem of a request that the upstream may have seen."""
        return replace(self, sent="maybe")


class StartError(Exception):
    """Sidekey cannot start. The message says why and what to do; it holds no secret."""


class ProblemError(Exception):
    """Carries a problem from deep in an await to whoever makes a response of it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code, problem.detail)
        self.problem = problem
