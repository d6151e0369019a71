"""Parse the responses of an upstream: the callbacks of httptools, and the limits on heads and trailers."""

from __future__ import annotations

from typing import ClassVar, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidekey.policy import framing
from sidekey.policy.framing import BODYLESS
from sidekey.policy.headers import RESPONSE_ROLES, FieldNames, Role, tokens
from sidekey.policy.messages import ResponseHead
from sidekey.policy.websocket import SWITCHING_PROTOCOLS
from sidekey.proxy.connection import Connection
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import Limits, RequestRules

NAMES: Final = FieldNames(RESPONSE_ROLES)
_FIRST: Final = NAMES.first

# Looking up a member of an enum is slow, and these are compared for each header field.
_FORWARD: Final = Role.FORWARD
_CONTENT_LENGTH: Final = Role.CONTENT_LENGTH
_TRANSFER_ENCODING: Final = Role.TRANSFER_ENCODING
_CONNECTION: Final = Role.CONNECTION
_KEEP_ALIVE: Final = Role.KEEP_ALIVE
_UPGRADE: Final = Role.UPGRADE

MALFORMED: Final = "the upstream's response is malformed"
OTHER_VERSION: Final = "the upstream's response must be in HTTP/1.1 or HTTP/1.0"
AMBIGUOUS: Final = "the framing of the upstream's response is ambiguous"
HEAD_TOO_LARGE: Final = "the head of the upstream's response is over limits.response_head"
NOT_A_STATUS: Final = "the upstream's status code is not one of HTTP"
_PERSISTENCE: Final = frozenset({b"keep-alive", b"Keep-Alive", b"close"})
"""Values of Connection that nominate no field. llhttp evaluates them. Comparing with the first one saves a hash."""

_VERSION: Final = b"HTTP/1."
"""The start of a response. llhttp also accepts HTTP/0.9 and 2.0, RTSP and ICE, and does not report the latter two."""


class BadResponse(Exception):
    """Raised in a callback to stop the parser. The reason contains no input."""


class ResponseReader(Connection):
    """The parser of an upstream connection, for one response after the other.

    `_head` is the complete head of the final response. `_new_head` is that head until the exchange gets it, and `_body`
    the pieces that the exchange has not got yet. `_received` counts the bytes of the response, and `_overhead` those
    since its last body byte: chunk extensions and trailers. `_interim` is 100 or 101 once such a response has arrived,
    else 0, and `_after_upgrade` are the bytes behind a 101. `_whole` is True once the response is complete.
    `_not_reusable` is True if no other exchange may use the connection, for example because unexpected bytes came.
    `_stale_parser` is True if llhttp cannot parse a next response. `_last_name` is the name of the last field, from
    which `NAMES` guesses the next one. `idle_timeout` is the number of seconds for which the connection may be idle.
    """

    __deletable__: ClassVar = ("_parser",)
    __slots__ = (
        "_after_upgrade",
        "_body",
        "_body_received",
        "_connection",
        "_content_length",
        "_encoding",
        "_fields",
        "_head",
        "_interim",
        "_keep_alive",
        "_last_name",
        "_new_head",
        "_not_reusable",
        "_overhead",
        "_parser",
        "_received",
        "_rules",
        "_stale_parser",
        "_to_head",
        "_whole",
        "idle_timeout",
    )

    _parser: HttpResponseParser
    """Set while the connection is open, because it refers back to this object."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.idle_timeout = worker.rules.timeouts.idle
        self._rules: RequestRules = worker.rules
        self._to_head = False
        self._not_reusable = False
        self._body: list[bytes] = []
        self._after_upgrade = b""
        self._last_name = _FIRST
        self._expect_head()

    def _expect_head(self) -> None:
        self._fields: list[bytes] = []
        self._content_length: int | None = None
        self._encoding: bytes | None = None
        self._connection: bytes | None = None
        self._head: ResponseHead | None = None
        self._new_head: ResponseHead | None = None
        self._received = self._body_received = self._overhead = 0
        self._interim = 0
        self._whole = False
        self._keep_alive = False
        self._stale_parser = False

    def _read(self, data: bytes) -> str:
        """Parse one read. Return an empty string, or the reason if the response is invalid."""
        if not self._received and not data.startswith(_VERSION) and not _VERSION.startswith(data):
            return OTHER_VERSION
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._after_upgrade = data[cast(int, upgrade.args[0]) :]
        except HttpParserError as error:
            if not self._whole:
                cause = error.__context__
                return str(cause) if isinstance(cause, BadResponse) else MALFORMED
            # The response was complete. Nobody requested what follows it.
            self._not_reusable = True
        if self._head is None:
            if self._received > self._rules.limits.response_head:
                return HEAD_TOO_LARGE
        elif self._head.length < 0 and not self._whole:
            self._overhead = 0 if self._body or self._new_head is not None else self._overhead + len(data)
            if self._overhead > self._rules.limits.response_head:
                return "the trailers or chunk extensions of the upstream's response are over limits.response_head"
        return ""

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        if self._head is not None:
            raise BadResponse("the upstream sent more than one response")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is not None:
            # Drop a trailer: no caller has announced that it accepts them (RFC 9110 6.5.1).
            return
        self._last_name = field_name = NAMES.read(name, self._last_name)
        role = field_name.role
        if role is _FORWARD:
            self._fields.append(field_name.start + value)
        elif role is _CONTENT_LENGTH:
            length = framing.KNOWN_LENGTHS.get(value)
            self._content_length = _parse_content_length(value) if length is None else length
        elif role is _TRANSFER_ENCODING:
            self._encoding = value.strip(b" \t") if self._encoding is None else self._encoding + b"," + value
        elif role is _CONNECTION and value != b"keep-alive" and value not in _PERSISTENCE:
            self._connection = value if self._connection is None else self._connection + b"," + value
        elif role is _KEEP_ALIVE:
            self._read_keep_alive(value)
        elif role is _UPGRADE and self._parser.get_status_code() == SWITCHING_PROTOCOLS:
            # In any other response it is an offer, which Sidekey drops.
            self._fields.append(field_name.start + value)

    def _read_keep_alive(self, value: bytes) -> None:
        for parameter in tokens(value):
            name, _, seconds = parameter.partition(b"=")
            if name == b"timeout" and seconds.isdigit():
                self.idle_timeout = max(0.0, min(self._rules.timeouts.idle, float(seconds[:6]) - 1.0))

    def on_headers_complete(self) -> None:
        # An idle connection must not keep a name that the upstream invented.
        self._last_name = _FIRST
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            # The exchange handles 100 and 101. Others are dropped, because few callers support them.
            if status not in (100, 101, 102, 103):
                raise BadResponse(NOT_A_STATUS)
            if status == SWITCHING_PROTOCOLS:
                self._check_upgrade(self._rules.limits)
                self._head = ResponseHead(status, self._fields, self._connection, framing.UNTIL_CLOSE, None)
            if status <= SWITCHING_PROTOCOLS:
                self._interim = status
            return
        keep_alive = self._keep_alive = parser.should_keep_alive()
        limits = self._rules.limits
        if (
            not keep_alive
            or status > 599
            or status == 407
            or len(self._fields) > limits.headers
            or self._received > limits.response_head
        ):
            self._check_head(status, limits)
        length = self._content_length
        if length is None or self._encoding is not None or status in BODYLESS or self._to_head:
            length = self._body_length(status)
        head = ResponseHead(status, self._fields, self._connection, length, self._content_length)
        self._head = self._new_head = head
        if not length:
            self._whole = True

    def _body_length(self, status: int) -> int:
        """Return the length of a body that Content-Length alone does not decide."""
        to_head = self._to_head
        if self._encoding is not None and self._parser.get_http_version() != "1.1":
            # Invalid framing (RFC 9112 6.1).
            raise BadResponse("the upstream's response has a transfer coding that its version of HTTP does not know")
        try:
            length = framing.response_length(status, self._content_length, self._encoding, head=to_head)
        except framing.BadFraming:
            raise BadResponse(AMBIGUOUS) from None
        if self._content_length or self._encoding is not None:
            if to_head:
                # llhttp does not know that this answers a HEAD request, and waits for a body.
                self._stale_parser = True
            elif status == 204:
                # The bytes of a forbidden body look like the next response (RFC 9110 15.3.5).
                self._keep_alive = False
        return length

    def _check_head(self, status: int, limits: Limits) -> None:
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise BadResponse(OTHER_VERSION)
        if status == 407:
            raise BadResponse("the upstream asks for proxy authentication")
        if status > 599:
            raise BadResponse(NOT_A_STATUS)
        if len(self._fields) > limits.headers:
            raise BadResponse("the upstream's response has more header fields than limits.headers")
        if sum(map(len, self._fields)) > limits.response_head:
            raise BadResponse(HEAD_TOO_LARGE)

    def _check_upgrade(self, limits: Limits) -> None:
        """Check the framing of a 101 response. The exchange checks whether it completes a handshake."""
        self._check_head(SWITCHING_PROTOCOLS, limits)
        if self._parser.get_http_version() != "1.1" or self._content_length is not None or self._encoding is not None:
            raise BadResponse(AMBIGUOUS)
        if not self._parser.should_upgrade():
            # llhttp would read the bytes that follow as another response.
            raise BadResponse("the upstream's 101 response must have Upgrade, and list it in Connection")

    def on_body(self, chunk: bytes) -> None:
        if self._whole:
            self._not_reusable = True
            return
        self._body_received += len(chunk)
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        if self._head is not None:
            self._whole = True
        else:
            # This was an interim response.
            received, interim = self._received, self._interim
            self._expect_head()
            self._received, self._interim = received, interim


def _parse_content_length(value: bytes) -> int:
    try:
        return framing.content_length(value)
    except framing.BadFraming:
        raise BadResponse(AMBIGUOUS) from None
