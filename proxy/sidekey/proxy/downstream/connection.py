"""A caller's connection: it starts requests one at a time, in order, writes their responses, and closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from httptools import HttpParserError

from sidekey.errors import Problem
from sidekey.policy.websocket import EARLY_BYTES
from sidekey.proxy.connection import PARSER_BYPASS, PAUSED_FOR_TURN
from sidekey.proxy.deadlines import NEVER, TICK
from sidekey.proxy.downstream.request_parser import CallerRequest, RequestReader
from sidekey.proxy.events import CallerEvents
from sidekey.proxy.operators import Operator
from sidekey.proxy.transport import block_input_if_empty, discard_input, half_close, has_no_input, reset
from sidekey.proxy.worker import Worker

SHORT_READ: Final = 4 << 10
"""A read up to this size is parsed at once: it is too short to contain many requests."""
LINGER: Final = 2.0
MAX_LINGER: Final = 30.0
"""After Sidekey has ended its side of a connection, the caller must end its own within LINGER seconds of its last byte,
and within MAX_LINGER in all (RFC 9112 9.6). Sidekey discards input until then: a reset could overtake the response."""

# Reasons to pause reading, beside PAUSED_FOR_TURN.
PAUSED_BY_QUEUE: Final = 2
PAUSED_BY_BODY: Final = 4
PAUSED_BY_CONNECT: Final = 8

NO_DESCRIPTOR: Final = Problem(
    "overloaded", "no file descriptor (NOFILE) is left for another connection", headers=(("Retry-After", "1"),)
)


class CallerConnection(RequestReader):
    """One connection of a caller. `start` creates the exchange of a request, or the handler of a CONNECT.

    `exchange` is the current exchange and `_request` its request. Later requests wait in `_queue`, and input that may
    contain too many requests waits in `_backlog`. `_uploading` is True until the exchange has seen the end of its
    request. `_discarding` is True once the connection must end: further input is ignored. `_linger_until` is set once
    Sidekey has ended its side. `_head_due` is True if the deadline is that of an incomplete head. `_pumping` is True
    while `_pump` runs. `operator` is set if this process sends the requests itself.
    """

    __slots__ = (
        "_discarding",
        "_head_due",
        "_linger_until",
        "_pumping",
        "_request",
        "_start",
        "_uploading",
        "exchange",
        "operator",
    )

    def __init__(
        self,
        worker: Worker,
        start: Callable[[CallerConnection, CallerRequest], CallerEvents],
        operator: Operator | None = None,
    ) -> None:
        super().__init__(worker)
        self.operator: Final = operator
        self.exchange: CallerEvents | None = None
        self._start = start
        self._request: CallerRequest | None = None
        self._linger_until = 0.0
        self._head_due = False
        self._pumping = False
        self._discarding = False
        self._uploading = False

    @property
    def unsent(self) -> bool:
        """True if part of a response is still unsent."""
        return self.transport.get_write_buffer_size() > 0

    @property
    def idle_since(self) -> float:
        """The time since which the connection waits for the first byte of a request; NEVER if it does not wait."""
        if self.exchange is not None or self._open_head or self._discarding or self.unsent:
            return NEVER
        # With the rules that set the deadline: a reload must not change the result.
        return self.deadline - self._rules.timeouts.keep_alive

    # For the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        worker = self.worker
        has_room = worker.register(self)
        self.deadline = worker.deadlines.now + self._rules.timeouts.keep_alive
        if not has_room:
            # All other connections are busy. Refusing before the request arrives frees the descriptor at once.
            self._refuse(NO_DESCRIPTOR, 0)
            discard_input(self.transport)
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        worker = self.worker
        worker.unregister(self)
        worker.deadlines.forget(self)
        self._discarding = True
        self._queue.clear()
        exchange = self.exchange
        self._set_exchange(None, None)
        if exchange is not None:
            exchange.caller_lost()
        self._forget_parser()

    def eof_received(self) -> bool:
        """End the exchange: a half-close looks like a caller that has gone (docs/decisions/0005)."""
        return False

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            if self._linger_until and not self.full:
                self.deadline = min(self.worker.deadlines.now + LINGER, self._linger_until)
            return
        if self._unparsed:
            data = self._receive_unparsed(data)
            if not data or self._discarding:
                return
        if self._backlog or (len(data) > SHORT_READ and self._has_too_many_heads(data)):
            self._backlog += data
            self._pause(PAUSED_BY_QUEUE)
            self._pump()
        else:
            self._parse(data)

    def _parse(self, data: bytes, waiting: int = -1) -> None:
        """Parse one read, then start or continue its requests. A read with a parse error has no effect but the error.

        `waiting` is the number of requests that were queued before the read. It differs from the current number only
        for the rest of a read, after an upgrade that Sidekey ignored.
        """
        if waiting < 0:
            waiting = len(self._queue)
        is_fresh = self._reading is None and not self._open_head
        self._is_long = not is_fresh or len(data) > SHORT_READ
        upgrade_end = -1
        problem: Problem | None = None
        try:
            if not is_fresh or not self._parse_single_request(data):
                upgrade_end = self._parse_in_pieces(data)
        except HttpParserError as error:
            problem = self._problem_of(error)
        else:
            if self._open_head or self._reading is not None:
                problem = self._check_limits()
            if problem is not None:
                waiting = self._count_complete()
        # Outside the `except` block: this may parse more, and `_problem_of` reads the cause from an error's context.
        if problem is not None:
            self._refuse(problem, waiting)
        elif upgrade_end >= 0:
            self._restart_after_upgrade()
            head = self._queue[-1].head if len(self._queue) > waiting else None
            if head is not None and head.is_websocket and upgrade_end < len(data):
                self._refuse(EARLY_BYTES, waiting)
            elif head is not None and head.method == b"CONNECT":
                self._backlog = data[upgrade_end:] + self._backlog
                self._pause(PAUSED_BY_CONNECT)
                self._act_on_read()
            else:
                self._parse(data[upgrade_end:], waiting)
        else:
            self._act_on_read()

    def _count_complete(self) -> int:
        """Return the number of complete requests in the queue, after a read that ends with a request over a limit.

        If the read also brought the end of the current body, notify the exchange first.
        """
        if self._reading is None:
            if self._uploading:
                self._notify_body()
            return len(self._queue)
        return len(self._queue) - (self._reading in self._queue)

    def _act_on_read(self) -> None:
        """Start the first request of a read, or notify the exchange that more of its body has arrived."""
        if self.exchange is None:
            queue = self._queue
            if len(queue) == 1 and not self.full and not self._pumping:
                self._begin(queue.pop())
            elif queue:
                self._pump()
            elif self._open_head and not self._head_due:
                # The deadline of an incomplete head counts from its first bytes.
                self._head_due = True
                self.deadline = self.worker.deadlines.now + self._rules.timeouts.request_head
            return
        if self._uploading:
            self._notify_body()
        elif self._request is not None and self._request.head.is_websocket:
            # Bytes before the 101, even an empty line, which the parser skips.
            self._discarding = True
        if self._queue:
            self._pause(PAUSED_BY_QUEUE)

    def _notify_body(self) -> None:
        """Notify the exchange that more of the body, or its end, has arrived."""
        exchange, request = self.exchange, self._request
        if exchange is None or request is None:
            return
        self._uploading = not request.complete
        exchange.body_received()
        if self._request is request:
            self._await_body(request)

    def _await_body(self, request: CallerRequest) -> None:
        """Set the deadline for the rest of a body, and let a long rest skip the parser."""
        if request.complete:
            self.deadline = NEVER
        elif not self._paused & ~PAUSED_FOR_TURN:
            self.deadline = self.worker.deadlines.now + request.rules.timeouts.idle
            left = request.head.length - request.received
            if left > PARSER_BYPASS:
                self._unparsed = left

    def _add_unparsed(self, piece: bytes, *, is_last: bool) -> None:
        request = self._request
        if request is None:
            return
        request.add(piece)
        if is_last:
            request.end()
            self._reading = None
            self._reset_parser()
        self._notify_body()

    # The order of requests.

    def _pump(self) -> None:
        """Start queued requests and parse buffered input until something blocks."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self.full:
                if self.exchange is None and self._queue:
                    self._begin(self._queue.pop(0))
                elif self._backlog and self._may_parse():
                    self._parse(self._take_backlog())
                else:
                    break
        finally:
            self._pumping = False
        if self._queue or self._backlog:
            self._pause(PAUSED_BY_QUEUE)
        elif self._paused & PAUSED_BY_QUEUE:
            self._resume(PAUSED_BY_QUEUE)

    def _may_parse(self) -> bool:
        """Return True if there is no exchange, or if it can accept more of its body now."""
        request = self._request
        return request is None or not (request.complete or self._paused & PAUSED_BY_BODY)

    def _begin(self, request: CallerRequest) -> None:
        exchange = self._start(self, request)
        self._set_exchange(exchange, request)
        if request.complete:
            self.deadline = NEVER
            self._uploading = False
            exchange.begin()
            return
        self._uploading = True
        self.deadline = self.worker.deadlines.now + request.rules.timeouts.idle
        exchange.begin()
        if self._request is request and not self._paused:
            self._await_body(request)

    def _set_exchange(self, exchange: CallerEvents | None, request: CallerRequest | None) -> None:
        """Set the current exchange and its request, or None after it."""
        self.exchange, self._request = exchange, request

    def _refuse(self, problem: Problem, waiting: int) -> None:
        """Respond to the incomplete request with an error, after the first `waiting` requests in the queue.

        Discard the later requests in the queue, and all further input.
        """
        queue = self._queue
        while len(queue) > waiting:
            queue.pop()
        self._discarding = True
        self._backlog = b""
        incomplete = self._take_incomplete()
        exchange = self.exchange
        if exchange is not None and self._uploading:
            exchange.request_unreadable(problem)
            return
        incomplete.set_problem(problem)
        queue.append(incomplete)
        self._pump()

    # For the exchange.

    def deliver(self, data: bytes) -> None:
        """Write a piece of a response."""
        self.transport.write(data)

    def exchange_ended(self, *, keep_alive: bool) -> None:
        """Start the next request after the response, or close the connection as the response announced."""
        request = self._request
        self._uploading = False
        if not keep_alive:
            # A caller that expected the connection to stay open may have sent more. So may one that sent a CONNECT.
            unread = request is None or not request.complete or request.head.keep_alive
            self.close(unread=unread or bool(self._queue or self._backlog or self._paused & PAUSED_BY_CONNECT))
            self._set_exchange(None, None)
            return
        self._set_exchange(None, None)
        self._head_due = bool(self._open_head)
        if self.full:
            # The end of the response is still unsent: `timeouts.write` continues, and the next request waits.
            return
        self._await_head()
        if self._queue or self._backlog or self._paused:
            # The upstream may have responded before it read the end of the body.
            self._resume(PAUSED_BY_BODY)
            self._pump()

    def release_transport(self) -> tuple[asyncio.Transport, bytes, bool]:
        """Release the transport to a tunnel or a WebSocket. Return it, the bytes after the CONNECT, and `full`.

        A transport does not call `pause_writing` again for its next protocol, so the tunnel must know `full`.
        """
        backlog, self._backlog = self._backlog, b""
        self._discarding = True
        self._set_exchange(None, None)
        self.worker.deadlines.forget(self)
        self._forget_parser()
        return self.transport, backlog, self.full

    def transport_closed(self) -> None:
        """Act on the end of a transport that was released to a WebSocket."""

    @property
    def has_more_input(self) -> bool:
        """True if the caller has sent anything after its current request."""
        arrived = self._queue or self._backlog or self._open_head or self._discarding
        return bool(arrived) or not has_no_input(self.transport)

    def pause_body(self) -> None:
        """Pause reading the body, because the exchange cannot accept more now."""
        self.deadline = NEVER
        self._pause(PAUSED_BY_BODY)

    def resume_body(self) -> None:
        """Resume reading the body."""
        request = self._request
        if request is not None and not request.complete:
            self.deadline = self.worker.deadlines.now + request.rules.timeouts.idle
        self._resume(PAUSED_BY_BODY)
        if self._backlog:
            self._pump()

    # The end.

    def _await_head(self) -> None:
        """Set the deadline for the next request, or for the rest of its head if a part has arrived."""
        timeouts = self._rules.timeouts
        seconds = timeouts.request_head if self._open_head else timeouts.keep_alive
        self.deadline = self.worker.deadlines.now + seconds

    def close_if_idle(self) -> bool:
        """Close the connection and return True if it is idle and nothing has arrived."""
        if self.idle_since == NEVER or not block_input_if_empty(self.transport):
            return False
        self.close()
        return True

    def wind_down(self, *, patient: bool) -> None:
        """Send the end of stream if the connection is idle and nothing has arrived. Do nothing while `patient`.

        The caller then has LINGER seconds to end its side. After that, a close cannot reset a request.
        """
        # A new connection also gets one tick for its first request.
        is_idle = self.worker.deadlines.now - self.idle_since > TICK
        if not patient and is_idle and has_no_input(self.transport):
            self.close(unread=True)

    def end(self) -> None:
        """Close the connection now, with a reset if a response is cut."""
        self._close_now(cut=self.unsent or self.exchange is not None)

    def _close_now(self, *, cut: bool) -> None:
        if not cut:
            discard_input(self.transport)
        self.close(cut=cut)

    def close(self, *, unread: bool = False, cut: bool = False) -> None:
        """End the connection after the pending writes, or with a reset if a response is `cut`.

        With `unread`, discard input until the caller ends its side. A reset shows that a response is cut even if its
        body ends with the connection (RFC 9112 8).
        """
        self._discarding = True
        self._queue.clear()
        self._backlog = b""
        transport = self.transport
        now = self.worker.deadlines.now
        if cut:
            reset(transport)
        elif transport.is_closing():
            return
        elif unread and transport.can_write_eof():
            try:
                is_plain = transport.get_extra_info("ssl_object") is None
                if is_plain and not self.unsent:
                    # uvloop would do this at its next turn, and lose bytes that arrive until then.
                    half_close(transport)
                transport.write_eof()
            except OSError:
                # The caller may have reset the connection.
                transport.abort()
                return
            self._linger_until = now + MAX_LINGER
            if not self.full:
                self.deadline = now + LINGER
            if self._paused:
                self._resume(self._paused)
        else:
            self.deadline = now + self._write_time
            transport.close()

    def expired(self) -> None:
        """End the connection, because the caller sends or reads too slowly or was idle for too long."""
        self.deadline = NEVER
        exchange = self.exchange
        if self._linger_until or self.transport.is_closing():
            # If a part of the response is unsent, a reset shows that it is incomplete.
            self._close_now(cut=self.unsent)
            self.transport.abort()
        elif exchange is not None:
            if self.full:
                exchange.caller_lost()
                self.close(cut=True)
            else:
                exchange.request_unreadable(Problem("request_timeout", "the body came too slowly"))
        elif self.full:
            self.close(cut=True)
        elif self._open_head:
            self._refuse(Problem("request_timeout", "the head came too slowly"), 0)
        elif not has_no_input(self.transport):
            # The loop reads this input in the same turn, so a request that came in time is answered.
            self.deadline = self.worker.deadlines.now + TICK
        else:
            self.close(unread=True)

    # Backpressure.

    @property
    def _write_time(self) -> float:
        """Seconds within which the caller must read the bytes that were written."""
        rules = self.worker.rules if self._request is None else self._request.rules
        return rules.timeouts.write

    def pause_writing(self) -> None:
        self.full = True
        self.deadline = self.worker.deadlines.now + self._write_time
        if self.exchange is not None:
            self.exchange.caller_full()

    def resume_writing(self) -> None:
        self.full = False
        exchange, request = self.exchange, self._request
        if exchange is not None and request is not None:
            self.deadline = NEVER
            if not request.complete:
                self.deadline = self.worker.deadlines.now + request.rules.timeouts.idle
            exchange.caller_drained()
            if self._backlog:
                self._pump()
        elif self._linger_until:
            self.deadline = self.worker.deadlines.now + LINGER
        elif not self.transport.is_closing():
            self._await_head()
            self._resume(PAUSED_BY_BODY)
            self._pump()
