"""Parsed heads of requests and responses, and the trace ID of a request (W3C Trace Context).

Heads are immutable: the code that decides and the code that forwards read the same values.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final

from sidekey.policy.headers import Role, tokens

NO_CONTROL_HEADERS: Final[dict[Role, bytes]] = {}

WEBSOCKET_LINES: Final = b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
"""Header lines of both messages of a WebSocket handshake (RFC 6455 1.3)."""


class RequestHead:
    """The parsed head of a request, in bytes as the caller sent them.

    `fields` are the lines that may be forwarded, each after the preceding CRLF, and `names` their normalized names.
    `token`, `integration_id` and `proxy_authorization` are values of the headers that identify caller and integration.
    `control_headers` are the values of the other headers that Sidekey itself acts on, such as Expect and Via.
    `connection` holds all Connection values, joined. Each of these is None if the request lacks it. `length` of the
    body is a number of bytes or `framing.CHUNKED`.
    """

    __slots__ = (
        "connection",
        "control_headers",
        "fields",
        "has_content_length",
        "host",
        "http_1_1",
        "integration_id",
        "keep_alive",
        "length",
        "method",
        "names",
        "proxy_authorization",
        "target",
        "token",
    )

    def __init__(  # noqa: PLR0917 - built once per request on the hot path, where keywords cost
        self,
        method: bytes,
        target: bytes,
        host: bytes | None,
        fields: list[bytes],
        names: list[bytes],
        control_headers: dict[Role, bytes] | None = None,
        connection: bytes | None = None,
        length: int = 0,
        has_content_length: bool = False,
        http_1_1: bool = True,
        keep_alive: bool = True,
        token: bytes | None = None,
        integration_id: bytes | None = None,
        proxy_authorization: bytes | None = None,
    ) -> None:
        self.method: Final = method
        self.target: Final = target
        self.host: Final = host
        self.fields: Final = fields
        self.names: Final = names
        self.control_headers: Final = control_headers
        self.connection: Final = connection
        self.length: Final = length
        self.has_content_length: Final = has_content_length
        self.http_1_1: Final = http_1_1
        self.keep_alive: Final = keep_alive
        self.token: Final = token
        self.integration_id: Final = integration_id
        self.proxy_authorization: Final = proxy_authorization

    def control_header(self, role: Role) -> bytes | None:
        """Return the value of a header that Sidekey acts on."""
        return (self.control_headers or NO_CONTROL_HEADERS).get(role)

    def with_target(self, target: bytes) -> RequestHead:
        """Return a copy of the head with another target."""
        return self._copy(target, self.fields, self.control_headers)

    def with_websocket_key(self, random: bytes) -> RequestHead:
        """Return a copy of a WebSocket handshake with these 16 bytes as its key. The caller's becomes a control header.

        An endpoint may relay the response of a server that the caller has chosen. That server could answer the caller's
        key, but it does not know this one.
        """
        at = self.names.index(b"sec-websocket-key")
        name, _, callers_key = self.fields[at].partition(b":")
        fields = list(self.fields)
        fields[at] = name + b": " + b64encode(random)
        control_headers = dict(self.control_headers or NO_CONTROL_HEADERS)
        control_headers[Role.WEBSOCKET_KEY] = callers_key.strip(b" \t")
        return self._copy(self.target, fields, control_headers)

    def _copy(self, target: bytes, fields: list[bytes], control_headers: dict[Role, bytes] | None) -> RequestHead:
        return RequestHead(
            self.method,
            target,
            self.host,
            fields,
            self.names,
            control_headers,
            self.connection,
            self.length,
            self.has_content_length,
            self.http_1_1,
            self.keep_alive,
            self.token,
            self.integration_id,
            self.proxy_authorization,
        )

    @property
    def expects_continue(self) -> bool:
        """Whether the caller waits for 100 before it sends the body (RFC 9110 10.1.1). HTTP/1.0 has no 100."""
        expected = self.control_header(Role.EXPECT)
        return expected is not None and self.http_1_1 and b"100-continue" in tokens(expected)

    @property
    def is_last_hop(self) -> bool:
        """Whether Sidekey must respond itself: an OPTIONS request with Max-Forwards 0 (RFC 9110 7.6.2)."""
        hops = self.control_header(Role.MAX_FORWARDS)
        return hops is not None and self.method == b"OPTIONS" and hops.isdigit() and not int(hops[:6])

    @property
    def is_websocket(self) -> bool:
        """Whether the request is a WebSocket handshake. The parser refuses invalid ones (`policy.websocket`)."""
        protocols = self.control_header(Role.UPGRADE)
        return protocols is not None and tokens(protocols) == [b"websocket"]

    def hop_fields(self) -> list[tuple[bytes, bytes]]:
        """Return name and line of each header that Sidekey forwards with its own value.

        Expect is forwarded for HTTP/1.1 only (RFC 9110 10.1.1). Max-Forwards of an OPTIONS request is decremented. Of
        upgrades, only that to WebSocket is forwarded.
        """
        fields = []
        if self.is_websocket:
            # The caller's Connection nominates Upgrade, whose line must stay. No header has the name of this one.
            fields.append((b"", WEBSOCKET_LINES))
        expected, hops = self.control_header(Role.EXPECT), self.control_header(Role.MAX_FORWARDS)
        if expected is not None and self.http_1_1:
            fields.append((b"expect", b"\r\nExpect: " + expected))
        if hops is not None:
            if self.method == b"OPTIONS" and hops.isdigit():
                hops = b"%d" % max(0, int(hops[:6]) - 1)
            fields.append((b"max-forwards", b"\r\nMax-Forwards: " + hops))
        return fields


class ResponseHead:
    """The parsed head of a final response.

    `fields` are the lines that may be forwarded, each after the preceding CRLF. `connection` holds the Connection
    values that name other headers, joined, or None. `length` of the body is a number of bytes, `framing.CHUNKED` or
    `framing.UNTIL_CLOSE`. `content_length` is the value of Content-Length, or None.
    """

    __slots__ = ("connection", "content_length", "fields", "length", "status")

    def __init__(
        self, status: int, fields: list[bytes], connection: bytes | None, length: int, content_length: int | None
    ) -> None:
        self.status: Final = status
        self.fields: Final = fields
        self.connection: Final = connection
        self.length: Final = length
        self.content_length: Final = content_length


_NAME: Final = b"traceparent"
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)(?:00(?=.{53}\Z)|(?!00)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?",
    re.S,
)
"""Version 00 ends after the flags. Later versions may add text that begins with a dash (3.2.2, 4)."""


def trace_id(head: RequestHead) -> str:
    """Return the trace ID, 32 hexadecimal digits. It is empty unless the request has one valid `traceparent`."""
    names = head.names
    if _NAME not in names or names.count(_NAME) > 1:
        return ""
    value = head.fields[names.index(_NAME)].partition(b":")[2].strip(b" \t")
    match = _TRACEPARENT.fullmatch(value)
    return "" if match is None else match[1].decode()
