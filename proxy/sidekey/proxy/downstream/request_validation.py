"""Validate the head of a request where llhttp is too lenient (RFC 9112 2 to 6)."""

from __future__ import annotations

from typing import Final

from sidekey.errors import Problem
from sidekey.policy import framing, websocket
from sidekey.policy.headers import Role, tokens
from sidekey.policy.messages import RequestHead
from sidekey.snapshot.request_rules import Limits

OTHER_PROTOCOL: Final = Problem("not_implemented", "the protocol must be HTTP/1.1 or HTTP/1.0", status=505)
OTHER_VERSION: Final = Problem("not_implemented", "the HTTP version must be 1.1 or 1.0", status=505)
HEAD_TOO_LARGE: Final = Problem("request_too_large", "the head is over limits.request_head", status=431)
TOO_MANY_FIELDS: Final = Problem("request_too_large", "the head has more fields than limits.headers", status=431)
MAX_MEMBERS: Final = 256
TOO_MANY_MEMBERS: Final = Problem(
    "request_too_large", f"Connection, Via and fields like them have more than {MAX_MEMBERS} members", status=431
)
TARGET_TOO_LARGE: Final = Problem("request_too_large", "the target is over limits.target", status=414)
MALFORMED: Final = Problem("request_invalid", "the request is malformed")
MALFORMED_LINE: Final = Problem(
    "request_invalid", "the request line must have one space between method and target, and one before the version"
)

REPEATABLE: Final = frozenset({Role.VIA, Role.TRANSFER_ENCODING, Role.UPGRADE, Role.EXPECT})
"""List fields: several of them count as one (RFC 9110 5.3)."""

FORWARDED: Final = frozenset({Role.VIA, Role.ORIGIN, Role.SEC_FETCH_SITE})
"""Fields with a meaning to the proxy that the upstream gets too."""

ONCE: Final = {
    Role.INTEGRATION_ID: "X-Integration-Id",
    Role.PROXY_AUTHORIZATION: "Proxy-Authorization",
    Role.TOKEN: "Sidekey-Token",
    Role.ORIGIN: "Origin",
    Role.SEC_FETCH_SITE: "Sec-Fetch-Site",
    Role.MAX_FORWARDS: "Max-Forwards",
}


class BadRequest(Exception):
    """Raised in a callback to stop the parser with a response."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def invalid(detail: str) -> BadRequest:
    """Build the error for a malformed or ambiguous request."""
    return BadRequest(Problem("request_invalid", detail))


def content_length(value: bytes) -> int:
    """Parse Content-Length. Raises BadRequest."""
    try:
        return framing.content_length(value)
    except framing.BadFraming as error:
        raise invalid(str(error)) from None


def coded_length(coding: bytes, *, has_content_length: bool, http_1_1: bool) -> int:
    """Return the length of a body with Transfer-Encoding. Raises BadRequest."""
    try:
        return framing.coded_length(coding, has_content_length=has_content_length, http_1_1=http_1_1)
    except framing.BadFraming as error:
        code = "not_implemented" if error.unknown_coding else "request_invalid"
        raise BadRequest(Problem(code, str(error))) from None


def check_upgrade(head: RequestHead, protocols: bytes) -> None:
    """Ignore upgrades to h2c and TLS, check WebSocket handshakes, and refuse others (RFC 9110 7.8).

    Raises BadRequest.
    """
    if head.is_websocket:
        if problem := websocket.find_request_error(head):
            raise BadRequest(problem)
    elif any(protocol != b"h2c" and not protocol.startswith(b"tls/") for protocol in tokens(protocols)):
        detail = "Upgrade must be websocket alone: Sidekey supports no other protocol"
        raise BadRequest(Problem("not_implemented", detail))


def check_connect(*, framed: bool) -> None:
    """Refuse a CONNECT with a body, since the tunnel follows its head (RFC 9110 9.3.6). Raises BadRequest."""
    if framed:
        raise invalid("CONNECT must have neither Content-Length nor Transfer-Encoding")


def check_head(head: RequestHead, limits: Limits) -> None:
    """Check a complete head against the limits. Raises BadRequest."""
    if len(head.target) > limits.target:
        raise BadRequest(TARGET_TOO_LARGE)
    if len(head.names) > limits.headers:
        raise BadRequest(TOO_MANY_FIELDS)
    if head.length > limits.request_body:
        raise BadRequest(Problem("request_too_large", "the body is over limits.request_body"))


def check_request_line(raw: bytes, head: RequestHead) -> None:
    """Refuse a request line that llhttp accepts against RFC 9112 3. `raw` begins with it. Raises BadRequest.

    llhttp skips blanks, and accepts RTSP and ICE.
    """
    if not raw.startswith(b"%b %b HTTP/1." % (head.method, head.target)):
        line = raw.partition(b"\r\n")[0]
        raise BadRequest(OTHER_PROTOCOL if b" HTTP/1." not in line else MALFORMED_LINE)
