"""A connection to an upstream: carries one exchange at a time, parses the answer, says whether it may be used again."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpResponseParser

from sidekey.core import framing
from sidekey.core.framing import BODYLESS
from sidekey.core.headers import ANSWER_ROLES, Names, Role, tokens
from sidekey.dataplane.buffers import THROUGH, WRITE_BUFFER
from sidekey.dataplane.deadlines import NEVER
from sidekey.dataplane.inbound import answer_head
from sidekey.errors import Problem
from sidekey.network.tls import ended_by_close_notify, tls_problem

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
AMBIGUOUS = "the framing of the upstream's answer is ambiguous"
_PERSISTENCE = frozenset({b"keep-alive", b"Keep-Alive", b"close"})
"""Values of Connection that nominate no field; llhttp heeds them."""


class BadAnswer(Exception):
    """Raised inside a parser callback to stop the parser; the reason is safe to show."""


class UpstreamConnection(asyncio.Protocol):
    """One upstream connection. The parser's callbacks fill `out`, which goes to the caller after each read."""

    __slots__ = (
        "_barren",
        "_body_from",
        "_clean_end",
        "_encoding",
        "_fed",
        "_fresh_parser",
        "_head_done",
        "_keep_alive",
        "_parser",
        "_spoiled",
        "_through",
        "_tls",
        "content_length",
        "deadline",
        "descriptor",
        "exchange",
        "full",
        "hop_by_hop",
        "idle_since",
        "keep_for",
        "length",
        "lines",
        "out",
        "pool",
        "reused",
        "status",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.idle_since = 0.0
        self.keep_for = pool.plane.timeouts.idle
        self.reused = False
        self.full = False
        self.descriptor = -1
        self.out: list[bytes] = []
        self._parser = HttpResponseParser(self)
        self._tls = pool.key.origin.scheme == "https"
        self._clean_end = False
        self._spoiled = False
        self._through = 0
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

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self.descriptor = socket.fileno()
        plane = self.pool.plane
        plane.deadlines.watched.add(self)
        plane.metrics.upstream_open += 1
        self.pool.open += 1

    def await_answer(self) -> None:
        """The last byte of the request is written: the answer's head is due, or more of an early answer."""
        plane = self.pool.plane
        timeouts = plane.timeouts
        self.deadline = plane.deadlines.now + (timeouts.idle if self._head_done else timeouts.response)

    def rest(self, now: float) -> None:
        """Become idle. An upstream that announced how long it keeps connections is taken at its word, less a second."""
        self.idle_since = now
        self.deadline = now + self.keep_for
        self.reused = True

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Nothing was asked: these bytes could only be taken for the answer to the next request.
            self.transport.abort()
            return
        if self._through:
            self._hand_through(exchange, data)
        elif not self._parse(exchange, data):
            return
        out = self.out
        if out:
            self.out = []
            exchange.deliver(out[0] if len(out) == 1 else b"".join(out))
        if exchange.answer_complete:
            self._release(exchange)
        elif self._head_done:
            self._go_on(exchange, len(data), progress=bool(out))

    def _parse(self, exchange: Exchange, data: bytes) -> bool:
        """Feed one read to the parser; False where the answer turned out to be broken."""
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not (self._head_done and exchange.answer_complete):
                cause = error.__context__
                self._break(exchange, str(cause) if isinstance(cause, BadAnswer) else MALFORMED)
                return False
            # The answer was whole; what follows it was not asked for, and the connection goes.
            self._spoiled = True
        if not self._head_done and self._fed > self.pool.plane.limits.response_head:
            self._break(exchange, "the head of the upstream's answer is over the limit")
            return False
        return True

    def _hand_through(self, exchange: Exchange, data: bytes) -> None:
        """Take a piece of a long body past the parser."""
        left = self._through - len(data)
        if left <= 0:
            self._spoiled = left < 0
            data = data[: self._through]
            left = 0
            exchange.answer_complete = self._fresh_parser = True
        self._through = left
        self.out.append(data)

    def _go_on(self, exchange: Exchange, size: int, *, progress: bool) -> None:
        """More of the answer's body is to come."""
        plane = self.pool.plane
        self.deadline = NEVER if exchange.caller_blocked else plane.deadlines.now + plane.timeouts.idle
        if self.length > THROUGH:
            left = self.length - (exchange.sent - self._body_from)
            if left > THROUGH:
                self._through = left
        elif self.length < 0:
            self._barren = 0 if progress else self._barren + size
            if self._barren > plane.limits.response_head:
                self._break(exchange, "the trailers or chunk extensions of the upstream's answer are over the limit")

    def _release(self, exchange: Exchange) -> None:
        """The answer is whole: give the connection back, or close it where its state is not beyond doubt."""
        # Where the answer overtook the end of its request, the next one would queue behind what is left of that.
        again = self._keep_alive and exchange.complete and not (self._spoiled or self.full)
        again = again and not self.transport.is_closing()
        self.detach()
        if again:
            if exchange.caller_blocked:
                # Held for a caller who is still taking the end of the answer; the next one is not to wait for him.
                self.transport.resume_reading()
            if self._fresh_parser:
                self._parser = HttpResponseParser(self)
            self._expect_head()
            self.pool.offer(self)
        else:
            self.transport.close()
        exchange.finish()

    def detach(self) -> None:
        """Part from the exchange."""
        self.exchange = None
        self.deadline = NEVER

    def abort(self) -> None:
        """Part from the exchange and cut the connection, so that an unfinished request never looks complete."""
        if self.exchange is not None:
            self.detach()
        self.transport.abort()

    def _break(self, exchange: Exchange, detail: str) -> None:
        self.out = []
        self.abort()
        exchange.fail(Problem("upstream_protocol_error", detail, sent="maybe"))

    def eof_received(self) -> bool:
        self._clean_end = not self._tls or ended_by_close_notify(self.transport)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        plane = self.pool.plane
        plane.deadlines.watched.discard(self)
        plane.metrics.upstream_open -= 1
        self.pool.open -= 1
        del self._parser  # it refers back to this object
        exchange = self.exchange
        if exchange is None:
            self.pool.forget(self)
            return
        self.detach()
        if self._head_done and self.length == framing.UNTIL_CLOSE and exc is None and self._clean_end:
            exchange.end_unframed()
            exchange.finish()
        elif self._fed == 0:
            if isinstance(exc, ssl.SSLError):
                fault = tls_problem(exc)
                fault.sent = "maybe"
                exchange.fail(fault)
            elif not (self.reused and exchange.retry()):
                detail = "the upstream closed the connection before it answered"
                exchange.fail(Problem("upstream_protocol_error", detail, error="connection_terminated", sent="maybe"))
        else:
            detail = "the upstream closed the connection in the middle of its answer"
            exchange.fail(Problem("upstream_protocol_error", detail, error="http_response_incomplete", sent="maybe"))

    def expired(self) -> None:
        """The deadline passed: idle too long, or the upstream too slow."""
        exchange = self.exchange
        self.deadline = NEVER
        if exchange is None:
            self.pool.forget(self)
            self.transport.close()
            return
        if self.full:
            detail = "the upstream took no more of the request in time"
        elif self._head_done:
            detail = "the upstream's answer stalled"
        else:
            detail = "the upstream did not answer in time"
        self.abort()
        exchange.fail(Problem("upstream_timeout", detail, sent="maybe"))

    def hold(self) -> None:
        """Read no more for now: the caller does not take it."""
        if not self.transport.is_closing():
            self.deadline = NEVER
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.transport.is_closing():
            plane = self.pool.plane
            self.deadline = plane.deadlines.now + plane.timeouts.idle
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.full = True
        if self.exchange is not None:
            plane = self.pool.plane
            self.deadline = plane.deadlines.now + plane.timeouts.write
            self.exchange.upstream_full()

    def resume_writing(self) -> None:
        self.full = False
        if self.exchange is not None:
            self.deadline = NEVER
            if self.exchange.complete:
                self.await_answer()
            self.exchange.upstream_drained()

    # The parser's side.

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
        self._keep_alive = parser.should_keep_alive()
        limits = self.pool.plane.limits
        if status > 599 or status == 407 or len(self.lines) > limits.headers or self._fed > limits.response_head:
            self._check_head(status, limits)
        length = self.content_length
        if length is None or self._encoding is not None or status in BODYLESS or exchange.method == b"HEAD":
            length = self._frame(exchange, status)
        self.status = status
        self.length = length
        self._head_done = True
        exchange.answered(status, length)
        head = answer_head(self, exchange)
        self.out += head
        if length == 0:
            exchange.answer_complete = True
        elif length > THROUGH:
            self._body_from = sum(map(len, head))

    def _frame(self, exchange: Exchange, status: int) -> int:
        """The length of the body where Content-Length alone does not say it."""
        head = exchange.method == b"HEAD"
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
