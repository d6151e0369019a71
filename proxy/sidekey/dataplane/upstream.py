"""A connection to an upstream: carries one exchange at a time, parses the answer, says whether it may be used again."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpResponseParser

from sidekey.core.framing import UNTIL_CLOSE
from sidekey.dataplane.answer_reader import MALFORMED, OTHER_VERSION, AnswerReader, BadAnswer
from sidekey.dataplane.buffers import THROUGH, WRITE_BUFFER
from sidekey.dataplane.deadlines import NEVER
from sidekey.dataplane.renewal import keep_back
from sidekey.errors import Problem
from sidekey.network.tls import certificate_refused, tls_problem

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange
    from sidekey.dataplane.pool import Pool


VERSION = b"HTTP/1."
"""How an answer begins: llhttp also takes HTTP/0.9 and 2.0, RTSP and ICE, and does not tell the latter."""


class UpstreamConnection(AnswerReader, asyncio.Protocol):
    """One upstream connection. The parser's callbacks fill `out`, which goes to the caller after each read."""

    __slots__ = (
        "_clean_end",
        "_through",
        "deadline",
        "descriptor",
        "full",
        "idle_since",
        "reused",
        "transport",
    )

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.deadline = NEVER
        self.idle_since = 0.0
        self.reused = False
        self.full = False
        self.descriptor = -1
        self._clean_end = False
        self._through = 0

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)
        self._parser = HttpResponseParser(self)
        socket = transport.get_extra_info("socket")
        if socket is not None:
            self.descriptor = socket.fileno()
        plane = self.pool.plane
        plane.deadlines.watched.add(self)
        plane.metrics.upstream_open += 1
        self.pool.opened(self)

    def await_answer(self) -> None:
        """The last byte of the request is written: the answer's head is due, or more of an early answer."""
        plane = self.pool.plane
        timeouts = plane.timeouts
        self.deadline = plane.deadlines.now + (timeouts.idle if self._head_done else timeouts.response)

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
        if exchange.held is not None:
            self.out = []
            keep_back(exchange, exchange.held, out)
        elif out:
            self.out = []
            exchange.deliver(out[0] if len(out) == 1 else b"".join(out))
        if exchange.answer_complete:
            self._release(exchange)
        elif self._head_done and not (exchange.held and exchange.held.weighed):
            self._go_on(exchange, len(data), progress=bool(out))

    def _parse(self, exchange: Exchange, data: bytes) -> bool:
        """Feed one read to the parser; False where the answer turned out to be broken."""
        if not self._fed and not data.startswith(VERSION) and not VERSION.startswith(data):
            self._break(exchange, OTHER_VERSION)
            return False
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
        if self.length > THROUGH and exchange.held is None:
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
            self.reused = True
            self.pool.offer(self)
        elif exchange.complete:
            self._close()
        else:
            self.transport.abort()
        exchange.finish()

    def use_up(self) -> None:
        """Let no other exchange use this connection after the one that it carries."""
        self._spoiled = True

    def _close(self) -> None:
        """Close in order; an upstream that does not take what is left is cut off after the write time-out."""
        plane = self.pool.plane
        self.deadline = plane.deadlines.now + plane.timeouts.write
        self.transport.close()

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
        # With TLS this is close_notify; a bare end of TCP, which anyone on the way can forge, is not told here.
        self._clean_end = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        plane = self.pool.plane
        plane.deadlines.watched.discard(self)
        plane.metrics.upstream_open -= 1
        self.pool.closed(self)
        del self._parser
        exchange = self.exchange
        if exchange is None:
            return
        self.detach()
        if self._head_done and self.length == UNTIL_CLOSE and exc is None and self._clean_end:
            exchange.end_unframed()
            exchange.finish()
        elif self._fed == 0:
            fault = self._tls_fault(exc)
            if fault is not None:
                exchange.fail(fault.maybe_sent())
            elif not (self.reused and exchange.retry()):
                detail = "the upstream closed the connection before it answered"
                exchange.fail(Problem("upstream_protocol_error", detail, error="connection_terminated", sent="maybe"))
        else:
            detail = "the upstream closed the connection in the middle of its answer"
            exchange.fail(Problem("upstream_protocol_error", detail, error="http_response_incomplete", sent="maybe"))

    def _tls_fault(self, exc: Exception | None) -> Problem | None:
        """What ended a connection without an answer, if that is a matter of TLS."""
        if isinstance(exc, ssl.SSLError):
            return tls_problem(exc)
        if self.pool.identity is None or self.reused or self._clean_end:
            return None
        return certificate_refused()

    def expired(self) -> None:
        """The deadline passed: idle too long, or the upstream too slow."""
        exchange = self.exchange
        self.deadline = NEVER
        if exchange is None:
            self.pool.forget(self)
            if self.transport.is_closing():
                self.transport.abort()
            else:
                self._close()
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
