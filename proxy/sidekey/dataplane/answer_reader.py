"""Reads an upstream's answer: the parser's callbacks, which fill `out` with what goes to the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from httptools import HttpResponseParser

from sidekey.core import framing
from sidekey.core.framing import BODYLESS
from sidekey.core.headers import ANSWER_ROLES, Names, Role, tokens
from sidekey.dataplane.buffers import THROUGH
from sidekey.dataplane.inbound import answer_head
from sidekey.dataplane.renewal import hold

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange
    from sidekey.dataplane.pool import Pool
    from sidekey.settings.snapshot import Limits

NAMES = Names(ANSWER_ROLES)
_KNOWN = NAMES.known

# Members of an enum are looked up slowly; these are compared for every special field.
_CONTENT_LENGTH = Role.CONTENT_LENGTH
_TRANSFER_ENCODING = Role.TRANSFER_ENCODING
_CONNECTION = Role.CONNECTION
_KEEP_ALIVE = Role.KEEP_ALIVE


MALFORMED = "the upstream's answer is malformed"
OTHER_VERSION = "the upstream's answer is in a version of HTTP other than 1.1 and 1.0"
AMBIGUOUS = "the framing of the upstream's answer is ambiguous"
_PERSISTENCE = frozenset({b"keep-alive", b"Keep-Alive", b"close"})
"""Values of Connection that nominate no field; llhttp heeds them."""


class BadAnswer(Exception):
    """Raised inside a parser callback to stop the parser; the reason is safe to show."""


class AnswerReader:
    """The parsing half of an upstream connection.

    `_head_done` is set with the head of the final answer. `_spoiled` says that bytes came which no exchange asked for,
    `_fresh_parser` that llhttp is in a state from which the next answer cannot be read.
    """

    __deletable__ = ("_parser",)
    __slots__ = (
        "_barren",
        "_body_from",
        "_encoding",
        "_fed",
        "_fresh_parser",
        "_head_done",
        "_keep_alive",
        "_parser",
        "_spoiled",
        "content_length",
        "exchange",
        "hop_by_hop",
        "keep_for",
        "length",
        "lines",
        "out",
        "pool",
        "status",
    )

    _parser: HttpResponseParser
    """There from the connection's beginning to its end: it refers back to this object."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.keep_for = pool.plane.timeouts.idle
        self.out: list[bytes] = []
        self._spoiled = False
        self._expect_head()

    def _expect_head(self) -> None:
        self.status = 0
        self.lines: list[bytes] = []
        self._fed = 0
        self._body_from = self._barren = 0
        self.content_length: int | None = None
        self._encoding: bytes | None = None
        self.hop_by_hop: bytes | None = None
        self._head_done = False
        self.length = 0
        self._keep_alive = False
        self._fresh_parser = False

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        if self._head_done:
            raise BadAnswer("the upstream sent more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            # A trailer: dropped, since no caller announced that it takes them (RFC 9110 6.5.1).
            return
        role, _, start = _KNOWN.get(name) or NAMES.learn(name)
        if not role:
            self.lines.append(start + value)
        elif role is _CONTENT_LENGTH:
            if value.isdigit() and len(value) < framing.DIGITS:
                self.content_length = int(value)
            else:
                self._note_length(value)
        elif role is _TRANSFER_ENCODING:
            self._encoding = value.strip(b" \t") if self._encoding is None else self._encoding + b"," + value
        elif role is _CONNECTION and value not in _PERSISTENCE:
            self.hop_by_hop = value if self.hop_by_hop is None else self.hop_by_hop + b"," + value
        elif role is _KEEP_ALIVE:
            self._note_keep_alive(value)

    def _note_length(self, value: bytes) -> None:
        try:
            self.content_length = framing.content_length(value)
        except framing.BadFraming:
            raise BadAnswer(AMBIGUOUS) from None

    def _note_keep_alive(self, value: bytes) -> None:
        for parameter in tokens(value):
            name, _, seconds = parameter.partition(b"=")
            if name == b"timeout" and seconds.isdigit():
                self.keep_for = max(0.0, min(self.pool.plane.timeouts.idle, float(seconds[:6]) - 1.0))

    def on_headers_complete(self) -> None:
        parser = self._parser
        exchange = self.exchange
        if exchange is None:
            raise BadAnswer("the upstream sent an answer unasked")
        status = parser.get_status_code()
        if status < 200:
            self._interim(exchange, status)
            return
        keep_alive = self._keep_alive = parser.should_keep_alive()
        limits = self.pool.plane.limits
        if (
            not keep_alive
            or status > 599
            or status == 407
            or len(self.lines) > limits.headers
            or self._fed > limits.response_head
        ):
            self._check_head(status, limits)
        length = self.content_length
        if length is None or self._encoding is not None or status in BODYLESS or exchange.method == b"HEAD":
            length = self._frame(exchange, status)
        self.status = status
        self.length = length
        self._head_done = True
        exchange.answered(status, length)
        lane = exchange.lane
        if lane.named:
            self.lines = lane.scrub(self.lines, exchange.grant)
        head = answer_head(self, exchange)
        if status in lane.watched:
            hold(exchange, self.lines, head)
        else:
            self.out += head
        if length == 0:
            exchange.answer_complete = True
        elif length > THROUGH:
            self._body_from = sum(map(len, head))

    def _frame(self, exchange: Exchange, status: int) -> int:
        """The length of the body where Content-Length alone does not say it."""
        head = exchange.method == b"HEAD"
        if self._encoding is not None and self._parser.get_http_version() != "1.1":
            # Faulty framing (RFC 9112 6.1).
            raise BadAnswer("the upstream's answer has a transfer coding that its version of HTTP does not know")
        try:
            length = framing.answer_length(status, self.content_length, self._encoding, head=head)
        except framing.BadFraming:
            raise BadAnswer(AMBIGUOUS) from None
        if self.content_length or self._encoding is not None:
            if head:
                # llhttp does not know what was asked and waits for a body.
                self._fresh_parser = True
            elif status == 204:
                # What stands where no body may be cannot be told from the next answer (RFC 9110 15.3.5).
                self._keep_alive = False
        return length

    def _check_head(self, status: int, limits: Limits) -> None:
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            raise BadAnswer(OTHER_VERSION)
        if status == 407:
            raise BadAnswer("the upstream asks for proxy authentication")
        if status > 599:
            raise BadAnswer("the upstream's status code is not one of HTTP")
        if len(self.lines) > limits.headers:
            raise BadAnswer("the upstream's answer has too many header fields")
        if sum(map(len, self.lines)) > limits.response_head:
            raise BadAnswer("the head of the upstream's answer is over the limit")

    def _interim(self, exchange: Exchange, status: int) -> None:
        """100 is passed to a caller that waits for it; others are dropped: few clients of webhooks bear them."""
        if status not in (100, 102, 103):
            raise BadAnswer("the upstream's status code is not one of HTTP")
        if status == 100 and exchange.expects_continue:
            exchange.caller.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        exchange = self.exchange
        if exchange is None or exchange.answer_complete:
            self._spoiled = True
            return
        if exchange.chunked_out:
            self.out += (b"%x\r\n" % len(chunk), chunk, b"\r\n")
        else:
            self.out.append(chunk)

    def on_message_complete(self) -> None:
        exchange = self.exchange
        if self._head_done:
            if exchange is not None and not exchange.answer_complete:
                if exchange.chunked_out:
                    self.out.append(b"0\r\n\r\n")
                exchange.answer_complete = True
        else:
            fed = self._fed
            self._expect_head()
            self._fed = fed
