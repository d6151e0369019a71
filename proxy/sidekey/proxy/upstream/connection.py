"""A connection to an upstream. It carries one exchange at a time and decides whether another may follow."""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from typing import Final

from httptools import HttpResponseParser

from sidekey.errors import Problem
from sidekey.network.tls import client_certificate_refused, tls_problem
from sidekey.policy.framing import UNTIL_CLOSE
from sidekey.policy.websocket import SWITCHING_PROTOCOLS
from sidekey.proxy.connection import PARSER_BYPASS
from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.events import ExchangeEvents
from sidekey.proxy.upstream.response_parser import ResponseReader
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import RequestRules

PAUSED_BY_CALLER: Final = 2
"""The reason to pause reading while the caller reads the response too slowly."""


class ConnectionOwner(ABC):
    """The owner of a connection: a pool."""

    __slots__ = ()

    @property
    @abstractmethod
    def has_identity(self) -> bool:
        """True if the connections present a client certificate."""

    @abstractmethod
    def add(self, connection: UpstreamConnection) -> None:
        """Add a new connection."""

    @abstractmethod
    def remove(self, connection: UpstreamConnection) -> None:
        """Remove a closed connection."""

    @abstractmethod
    def remove_idle(self, connection: UpstreamConnection) -> None:
        """Never use a connection again, because it closes."""

    @abstractmethod
    def offer(self, connection: UpstreamConnection) -> None:
        """Reuse a connection that has become free."""


class UpstreamConnection(ResponseReader):
    """One upstream connection. It passes each read to the exchange in one call.

    `_request_sent` is True once the whole request was written. `reused` is True from the second exchange on.
    `_clean_end` is True once the upstream has ended the stream, with TLS by close_notify.
    """

    __slots__ = (
        "_clean_end",
        "_request_sent",
        "exchange",
        "idle_since",
        "owner",
        "reused",
    )

    def __init__(self, worker: Worker, owner: ConnectionOwner) -> None:
        super().__init__(worker)
        self.owner = owner
        self.exchange: ExchangeEvents | None = None
        self.idle_since = 0.0
        self.reused = False
        self._clean_end = False
        self._request_sent = False

    # For the pool.

    def become_idle(self) -> None:
        """Become idle, and expire before the upstream would close the connection."""
        now = self.worker.deadlines.now
        self.idle_since = now
        self.deadline = now + self.idle_timeout

    def close_after_exchange(self) -> None:
        """Close after the current exchange."""
        self._not_reusable = True

    # For the exchange.

    def begin_exchange(
        self, exchange: ExchangeEvents, rules: RequestRules, data: bytes, *, whole: bool, to_head: bool
    ) -> None:
        """Write a request of this exchange: `data` is its head and the first part of its body, or all if `whole`.

        `to_head` is True for a HEAD request.
        """
        self.exchange = exchange
        self._rules = rules
        self._to_head = to_head
        self._request_sent = whole
        # This replaces the deadline of an idle connection, before the write may set another one. A response is not due
        # while reading is paused.
        is_due = whole and not self._paused & PAUSED_BY_CALLER
        self.deadline = self.worker.deadlines.now + rules.timeouts.response if is_due else NEVER
        self.transport.write(data)

    def send(self, data: bytes, *, whole: bool) -> None:
        """Write more of the body, or the last part if `whole`."""
        if self.transport.is_closing():
            return
        self._request_sent = whole
        if whole:
            self._await_response()
        if data:
            self.transport.write(data)

    def _await_response(self) -> None:
        """Set the deadline for the head of the response, or for more of an early response."""
        timeouts = self._rules.timeouts
        self.deadline = self.worker.deadlines.now + (timeouts.response if self._head is None else timeouts.idle)

    def release(self, *, reusable: bool) -> None:
        """Return to the pool after a complete response, or close if the state of the connection is in doubt.

        `reusable` is False if the response came before the end of the request.
        """
        if not reusable:
            self.abort()
            return
        may_reuse = self._keep_alive and not (self._not_reusable or self.full)
        self._detach()
        if not may_reuse:
            # `timeouts.write` limits the time until the upstream has read the rest of the writes.
            self.deadline = self.worker.deadlines.now + self._rules.timeouts.write
            self.transport.close()
            return
        # The caller may still be reading the end of this response, but the next exchange must not wait for it.
        self._resume(PAUSED_BY_CALLER)
        if self._stale_parser:
            self._parser = HttpResponseParser(self)
        self._expect_head()
        self.reused = True
        self.owner.offer(self)

    def release_transport(self) -> tuple[asyncio.Transport, bool]:
        """Give the transport to a WebSocket, and leave the pool. Return it and `full`, as `CallerConnection` does."""
        self._detach()
        self._forget()
        return self.transport, self.full

    def abort(self) -> None:
        """Detach from the exchange and cut the connection, so that an incomplete request never looks complete."""
        if self.exchange is not None:
            self._detach()
        self.transport.abort()

    def pause(self) -> None:
        """Pause reading, because the caller reads the response too slowly."""
        self._pause(PAUSED_BY_CALLER)
        if not self.transport.is_closing():
            self.deadline = NEVER

    def resume(self) -> None:
        """Resume reading."""
        self._resume(PAUSED_BY_CALLER)
        if not self.transport.is_closing():
            self.deadline = self.worker.deadlines.now + self._rules.timeouts.idle

    def _detach(self) -> None:
        self.exchange = None
        self.deadline = NEVER

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._parser = HttpResponseParser(self)
        self.worker.metrics.upstream_open += 1
        self.owner.add(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # Without a request, these bytes could only be mistaken for the next response.
            self.transport.abort()
            return
        if self._unparsed:
            # What follows the body makes the connection unusable.
            self._not_reusable |= bool(self._receive_unparsed(data))
        elif error := self._read(data):
            self._fail_malformed(exchange, error)
            return
        if self._interim:
            interim, self._interim = self._interim, 0
            if interim == SWITCHING_PROTOCOLS and self._head is not None:
                exchange.upgrade_received(self._head, self._after_upgrade)
                return
            exchange.continue_received()
        head, body, whole = self._new_head, self._body, self._whole
        if head is not None:
            self._new_head = None
        if body:
            self._body = []
        if not whole and self._head is not None:
            self._await_body()
        if head is not None or body or whole:
            exchange.response_received(head, body, whole=whole)

    def _add_unparsed(self, piece: bytes, *, is_last: bool) -> None:
        self._body.append(piece)
        if is_last:
            self._whole = self._stale_parser = True

    def _await_body(self) -> None:
        """Set the deadline for more of the body, and let a long rest skip the parser."""
        head = self._head
        is_due = not self._paused & PAUSED_BY_CALLER
        self.deadline = self.worker.deadlines.now + self._rules.timeouts.idle if is_due else NEVER
        if not self._unparsed and head is not None:
            left = head.length - self._body_received
            if left > PARSER_BYPASS:
                self._unparsed = left

    def _fail_malformed(self, exchange: ExchangeEvents, detail: str) -> None:
        self.abort()
        exchange.upstream_lost(Problem("upstream_protocol_error", detail, sent="maybe"), stale=False)

    def eof_received(self) -> bool:
        # With TLS this is close_notify. The TLS transport does not report a bare end of TCP, which others can forge.
        self._clean_end = True
        return False

    def _forget(self) -> None:
        """Leave the pool and the deadlines, and break the reference cycle with the parser."""
        worker = self.worker
        worker.deadlines.forget(self)
        worker.metrics.upstream_open -= 1
        self.owner.remove(self)
        del self._parser

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        exchange, head = self.exchange, self._head
        if exchange is None:
            return
        self._detach()
        if head is not None and head.length == UNTIL_CLOSE and exc is None and self._clean_end:
            exchange.response_received(None, [], whole=True)
            return
        # A TLS alert answers the handshake even if it comes late, so the request must not be sent again.
        stale = self.reused and not self._received and not isinstance(exc, ssl.SSLError)
        exchange.upstream_lost(self._loss_problem(exc), stale=stale)

    def _loss_problem(self, exc: Exception | None) -> Problem:
        """Build the problem for a connection that ended before its response did."""
        if self._received:
            detail = "the upstream closed the connection in the middle of its response"
            return Problem("upstream_protocol_error", detail, error="http_response_incomplete", sent="maybe")
        if isinstance(exc, ssl.SSLError):
            return tls_problem(exc).maybe_sent()
        if self.owner.has_identity and not self.reused and not self._clean_end:
            return client_certificate_refused().maybe_sent()
        detail = "the upstream closed the connection before it responded"
        return Problem("upstream_protocol_error", detail, error="connection_terminated", sent="maybe")

    def expired(self) -> None:
        """Close an idle connection, or fail the exchange because the upstream is too slow."""
        exchange = self.exchange
        self.deadline = NEVER
        if exchange is None:
            self.owner.remove_idle(self)
            if self.transport.is_closing():
                self.transport.abort()
            else:
                self.deadline = self.worker.deadlines.now + self._rules.timeouts.write
                self.transport.close()
            return
        if self.full:
            detail = "the upstream took no more of the request in time"
        elif self._head is not None:
            detail = "the upstream's response stalled"
        else:
            detail = "the upstream did not respond in time"
        self.abort()
        exchange.upstream_lost(Problem("upstream_timeout", detail, sent="maybe"), stale=False)

    def pause_writing(self) -> None:
        self.full = True
        if self.exchange is not None:
            self.deadline = self.worker.deadlines.now + self._rules.timeouts.write
            self.exchange.upstream_full()

    def resume_writing(self) -> None:
        self.full = False
        if self.exchange is not None:
            self.deadline = NEVER
            if self._request_sent:
                self._await_response()
            self.exchange.upstream_drained()
