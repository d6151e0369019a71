"""What a request's head must be beyond llhttp's own rules, checked while it is parsed (RFC 9112 2 to 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.core import framing
from sidekey.core.headers import Role, tokens
from sidekey.errors import Problem

if TYPE_CHECKING:
    from httptools import HttpRequestParser

    from sidekey.dataplane.exchange import Exchange
    from sidekey.settings.snapshot import Limits

CONNECT_LATER = (
    "CONNECT (https:// URLs by HTTPS_PROXY) comes later: use the reverse door /i/{id}/..., or write the target as "
    "an http:// URL, which the forward door upgrades to https"
)
OTHER_PROTOCOL = Problem("not_implemented", "the protocol is neither HTTP/1.1 nor HTTP/1.0", status=505)
HEAD_TOO_LARGE = Problem("request_too_large", "the head is over limits.request_head", status=431)
MALFORMED = Problem("request_invalid", "the request is malformed")

# Members of an enum are looked up slowly; these are compared for every special field.
_HOST = Role.HOST
_CONTENT_LENGTH = Role.CONTENT_LENGTH
_CONNECTION = Role.CONNECTION
_PROXY_CONNECTION = Role.PROXY_CONNECTION
_DROP = Role.DROP

_JOINED = frozenset({Role.VIA, Role.TRANSFER_ENCODING, Role.UPGRADE, Role.EXPECT})
_ONCE = {
    Role.INTEGRATION_ID: "X-Integration-Id",
    Role.PROXY_AUTHORIZATION: "Proxy-Authorization",
    Role.TOKEN: "Sidekey-Token",
    Role.ORIGIN: "Origin",
    Role.SEC_FETCH_SITE: "Sec-Fetch-Site",
    Role.MAX_FORWARDS: "Max-Forwards",
}
_FORWARDED = frozenset({Role.VIA, Role.ORIGIN, Role.SEC_FETCH_SITE})


class BadRequest(Exception):
    """Raised inside a parser callback, to stop the parser with an answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def invalid(detail: str) -> BadRequest:
    """A request that is malformed or ambiguous."""
    return BadRequest(Problem("request_invalid", detail))


def note_field(exchange: Exchange, role: Role, value: bytes, normal: bytes, start: bytes) -> None:
    """Take in a field that means something to the proxy; the reader itself took the first Host. Raises BadRequest."""
    if role is _HOST:
        raise invalid("Host is given twice")
    if role is _CONTENT_LENGTH:
        try:
            exchange.length = framing.content_length(value)
        except framing.BadFraming as fault:
            raise invalid(str(fault)) from None
        exchange.length_given = True
    elif role is _CONNECTION:
        exchange.hop_by_hop = b"%b,%b" % (exchange.hop_by_hop, value) if exchange.hop_by_hop else value
    elif role is _PROXY_CONNECTION:
        # Not a field of HTTP, but llhttp reads it as Connection, so keep-alive no longer tells the version.
        exchange.hop_by_hop = exchange.hop_by_hop or b""
    elif role is not _DROP:
        _mark(exchange, role, value)
        if role in _FORWARDED:
            exchange.lines.append(start + value)
            exchange.names.append(normal)


def _mark(exchange: Exchange, role: Role, value: bytes) -> None:
    marks = exchange.marks
    if marks is None:
        marks = exchange.marks = {}
    if role not in marks:
        marks[role] = value.strip(b" \t")
    elif role in _JOINED:
        marks[role] += b"," + value.strip(b" \t")
    else:
        raise invalid(f"{_ONCE[role]} is given twice")


def check_head(exchange: Exchange, parser: HttpRequestParser, limits: Limits) -> None:
    """Judge a head that is whole: version, framing, limits, upgrades. Raises BadRequest."""
    exchange.method = parser.get_method()
    keep_alive = exchange.keep_alive = parser.should_keep_alive()
    if not keep_alive or exchange.hop_by_hop is not None:
        _check_version(exchange, parser)
    if exchange.method == b"CONNECT":
        raise BadRequest(Problem("not_implemented", CONNECT_LATER))
    if exchange.host is None and exchange.http_1_1:
        raise invalid("Host is missing")
    if exchange.marks is not None:
        _check_marks(exchange, exchange.marks)
    if len(exchange.target) > limits.target:
        raise BadRequest(Problem("request_too_large", "the target is over limits.target", status=414))
    if len(exchange.names) > limits.headers:
        raise BadRequest(Problem("request_too_large", "the head has more fields than limits.headers", status=431))
    if exchange.length > limits.request_body:
        raise BadRequest(Problem("request_too_large", "the body is over limits.request_body"))


def check_size(exchange: Exchange, limits: Limits) -> Problem | None:
    """Weigh a head that may be over a limit, whole or not: the target is named where it alone is."""
    if len(exchange.target) > limits.target:
        return Problem("request_too_large", "the target is over limits.target", status=414)
    if len(exchange.target) + sum(map(len, exchange.lines)) > limits.request_head:
        return HEAD_TOO_LARGE
    return None


def _check_version(exchange: Exchange, parser: HttpRequestParser) -> None:
    """HTTP/1.1 is known without asking where a connection persists and no field said so (RFC 9112 9.3)."""
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise BadRequest(Problem("not_implemented", "the HTTP version is neither 1.1 nor 1.0", status=505))
    exchange.http_1_1 = version == "1.1"


def _check_marks(exchange: Exchange, marks: dict[Role, bytes]) -> None:
    coding = marks.get(Role.TRANSFER_ENCODING)
    if coding is not None:
        try:
            exchange.length = framing.coded_length(
                coding, length_given=exchange.length_given, http_1_1=exchange.http_1_1
            )
        except framing.BadFraming as fault:
            code = "not_implemented" if fault.unknown_coding else "request_invalid"
            raise BadRequest(Problem(code, str(fault))) from None
    protocols = tokens(marks.get(Role.UPGRADE, b""))
    if any(protocol != b"h2c" and not protocol.startswith(b"tls/") for protocol in protocols):
        raise BadRequest(
            Problem("not_implemented", "Upgrade is not offered: only plain HTTP/1.1 exchanges are carried")
        )
