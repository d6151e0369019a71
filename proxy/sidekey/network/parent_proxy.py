"""CONNECT to a parent proxy (RFC 9110 9.3.6): the request, its response, and the problems.

The proxy sees the host and port of the upstream, and the bytes that follow: TLS, unless the upstream is http.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, cast

from sidekey.errors import Problem
from sidekey.policy.addresses import parse_address
from sidekey.snapshot.parent_proxy import ParentProxy

MAX_HEAD_SIZE: Final = 16 << 10
"""Bytes of the head of a response to CONNECT."""

_HEAD_END: Final = b"\r\n\r\n"
_VERSION: Final = b"HTTP/1."
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")

_CREDENTIALS: Final = "Proxy-Authorization: "

_REMEDY: Final = "is `url` of `proxy` an HTTP proxy, and is its scheme right?"

_GARBAGE: Final = Problem(
    "parent_proxy_failed", f"the parent proxy did not return a valid HTTP/1.1 response to CONNECT: {_REMEDY}"
)
_CLOSED: Final = Problem(
    "parent_proxy_failed",
    f"the parent proxy closed the connection before it responded to CONNECT: {_REMEDY}",
    error="connection_terminated",
)
CUT: Final = Problem(
    "upstream_protocol_error",
    "the upstream closed the connection, or sent bytes, before the request",
    error="connection_terminated",
)
SILENT: Final = Problem(
    "upstream_timeout",
    "neither the parent proxy nor, through it, the upstream responded in time",
    error="connection_timeout",
)


class ConnectHandshake(asyncio.Protocol):
    """Sends CONNECT, and gives the transport to `successor` after a 2xx response.

    `result` gets None if the tunnel is open, else the problem. Bytes after the head of the response come from the
    upstream, so `successor` receives them.
    """

    transport: asyncio.Transport | None = None

    def __init__(self, request: bytes, successor: asyncio.BaseProtocol, result: asyncio.Future[Problem | None]) -> None:
        self.is_open = False
        self._request = request
        self._successor = successor
        self._result = result
        self._received = bytearray()

    @property
    def is_closed(self) -> bool:
        """Return True if the connection has closed, also after `successor` got it."""
        return self.transport is not None and self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read the head of the response."""
        received = self._received
        received += data
        end = received.find(_HEAD_END, 0, MAX_HEAD_SIZE)
        if end >= 0:
            self._head_received(bytes(received[: end + len(_HEAD_END)]), bytes(received[end + len(_HEAD_END) :]))
        elif len(received) >= MAX_HEAD_SIZE or not received.startswith(_VERSION[: len(received)]):
            self._fail(_GARBAGE)

    def _head_received(self, head: bytes, rest: bytes) -> None:
        line = _STATUS_LINE.match(head)
        problem = _GARBAGE if line is None else _status_problem(int(line[1]), self._request)
        if problem is not None:
            self._fail(problem)
            return
        self.is_open = True
        transport, successor = cast(asyncio.Transport, self.transport), cast(asyncio.Protocol, self._successor)
        # A loop checks the type of the protocol only when it begins to read.
        transport.pause_reading()
        transport.set_protocol(successor)
        transport.resume_reading()
        # From here on, the successor may pause reading.
        successor.connection_made(transport)
        if rest:
            successor.data_received(rest)
        self._finish(None)

    def _fail(self, problem: Problem) -> None:
        self.abort()
        self._finish(problem)

    def _finish(self, problem: Problem | None) -> None:
        if not self._result.done():
            self._result.set_result(problem)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its text may repeat the proxy's bytes
        """Fail: the response is missing."""
        self._finish(_CLOSED)

    def abort(self) -> None:
        """Close the connection, also one that `successor` has."""
        if self.transport is not None:
            self.transport.abort()


def connect_request(proxy: ParentProxy, authority: str, via: str) -> bytes:
    """Serialize a CONNECT. `via` is a header line or empty. Host equals the authority (RFC 9112 3.2.3)."""
    credentials = f"{_CREDENTIALS}{proxy.authorization}\r\n" if proxy.authorization else ""
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{via}{credentials}\r\n".encode("ascii")


def _status_problem(status: int, request: bytes) -> Problem | None:
    """Return the problem for the status of a response to CONNECT, or None if the tunnel is open."""
    if 200 <= status < 300:
        return None
    if status == 407:
        detail = (
            "the parent proxy rejected the `username` and `password` of `proxy` (407)"
            if _CREDENTIALS.encode() in request
            else "the parent proxy requires a user: set `username` and `password` of `proxy` (407)"
        )
        return Problem("parent_proxy_failed", detail, error="proxy_configuration_error")
    if status == 403:
        detail = f"the parent proxy denied the connection to the upstream (403): {_denial_remedy(request)}"
        return Problem("parent_proxy_failed", detail, error="http_request_denied")
    if status in (502, 503, 504):
        detail = f"the parent proxy could not connect to the upstream ({status})"
        return Problem("upstream_unreachable", detail, error="destination_unavailable")
    return Problem("parent_proxy_failed", f"the parent proxy responded {status} to CONNECT: {_REMEDY}")


def _denial_remedy(request: bytes) -> str:
    host, _, port = request.split(b" ", 2)[1].decode().rpartition(":")
    remedies = ["allow this upstream there"]
    if port != "443":
        remedies.append(f"allow CONNECT to port {port} there, in squid with SSL_ports")
    if parse_address(host.strip("[]")) is not None:
        remedies.append("if it allows host names only, set `resolve: proxy` of `proxy`")
    return "; ".join(remedies)


def problem_of_proxy(problem: Problem) -> Problem:
    """Turn the problem of a connection to an upstream into one of the connection to the proxy."""
    if problem.code == "overloaded":
        return problem
    detail = problem.detail_about("the parent proxy", "the parent proxy's")
    if problem.error == "tls_certificate_error" and detail.endswith("trusted"):
        detail = f"{detail}; set `trusted_ca` of `proxy` to the CA that signed it"
    elif problem.error == "tls_protocol_error":
        detail = f"{detail}: {_REMEDY}"
    denied = problem.code == "destination_denied"
    return Problem(
        "parent_proxy_failed",
        detail,
        status=504 if problem.status == 504 else 502,
        error="proxy_configuration_error" if denied else problem.error,
    )
