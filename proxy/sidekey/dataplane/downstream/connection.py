"""A caller's connection: parses requests, keeps their order, and knows how the connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from httptools import HttpParserError

from sidekey.dataplane.connection import BYPASS, PAUSED_FOR_TURN
from sidekey.dataplane.deadlines import NEVER, TICK
from sidekey.dataplane.downstream.request_reader import Request, RequestReader
from sidekey.dataplane.events import CallerEvents
from sidekey.dataplane.operators import Operator
from sidekey.dataplane.sockets import drop_rest, half_close, is_quiet, reset, seal_if_quiet
from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem

SHORT_READ: Final = 4 << 10
"""A read of no more bytes than this is parsed whole, however many requests it holds: its length bounds them."""
LINGER: Final = 2.0
LINGER_AT_MOST: Final = 30.0
"""Seconds, from the last byte and in all, that a caller has to end its side once ours has ended (RFC 9112 9.6). What
still comes is read and dropped: a reset could overtake our response, and does not tell that a request may be sent
again."""

PAUSED_BY_QUEUE: Final = 2
PAUSED_BY_BODY: Final = 4
PAUSED_BY_CONNECT: Final = 8

NO_DESCRIPTOR: Final = Problem(
    "overloaded", "no file descriptor (NOFILE) is left for another connection", headers=(("Retry-After", "1"),)
)


class CallerConnection(RequestReader):
    """One connection of a caller. `exchange` is the one being answered; later requests wait in `_queue`.

    `_uploading` says that the exchange has not been told of its request's end, `_discarding` that the connection's end
    is certain: what still arrives has no meaning any more. `operator` is who sends, if this process does.
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
        start: Callable[[CallerConnection, Request], CallerEvents],
        operator: Operator | None = None,
    ) -> None:
        super().__init__(worker)
        self.operator: Final = operator
        self.exchange: CallerEvents | None = None
        self._start = start
        self._request: Request | None = None
        self._linger_until = 0.0
        self._head_due = False
        self._pumping = False
        self._discarding = False
        self._uploading = False

    @property
    def unsent(self) -> bool:
        """Whether part of a response has not left yet."""
        return self.transport.get_write_buffer_size() > 0

    @property
    def is_idle(self) -> bool:
        """Whether no exchange is under way."""
        return self.exchange is None

    @property
    def idle_since(self) -> float:
        """Since when it waits for the first byte of a request; NEVER where it does not."""
        if self.exchange is not None or self._line or self._discarding or self.unsent:
            return NEVER
        # By the rules that the deadline was set by: a reload must not move this.
        return self.deadline - self._rules.timeouts.keep_alive

    @property
    def _awaits_tunnel(self) -> bool:
        """Whether a CONNECT was read: what follows it is for a tunnel, or for nobody."""
        return bool(self._paused & PAUSED_BY_CONNECT)

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        worker = self.worker
        has_room = worker.opened(self)
        self.deadline = worker.deadlines.now + self._rules.timeouts.keep_alive
        if not has_room:
            # Everybody else has a request under way. What is said now, before the request is read, is all that can be
            # done without keeping the descriptor.
            self._refuse(NO_DESCRIPTOR, 0)
            drop_rest(self.transport)
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        worker = self.worker
        worker.closed(self)
        worker.deadlines.forget(self)
        self._discarding = True
        self._queue.clear()
        exchange = self.exchange
        self._carry(None, None)
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
        if self._held or (len(data) > SHORT_READ and self._crowded(data)):
            self._held += data
            self._pause(PAUSED_BY_QUEUE)
            self._pump()
        else:
            self._parse(data)

    def _parse(self, data: bytes, waiting: int = -1) -> None:
        """Feed one read to the parser and act on what it completed; one that does not parse is not acted on at all.

        `waiting` is the number of requests queued before the read, where `data` is only what follows an upgrade in it.
        """
        if waiting < 0:
            waiting = len(self._queue)
        is_fresh = self._reading is None and not self._line
        self._is_long = not is_fresh or len(data) > SHORT_READ
        passed_over = -1
        problem: Problem | None = None
        try:
            if not is_fresh or not self._feed_one(data):
                passed_over = self._feed_pieces(data)
        except HttpParserError as error:
            problem = self._problem_of(error)
        else:
            if self._line or self._reading is not None:
                problem = self._over_bounds()
            if problem is not None:
                waiting = self._keep_complete()
        # Out of the handlers: what is parsed inside one tells no reason of its own (`_problem_of`).
        if problem is not None:
            self._refuse(problem, waiting)
        elif passed_over >= 0:
            self._pass_over_upgrade()
            if len(self._queue) > waiting and self._queue[-1].head.method == b"CONNECT":
                self._held = data[passed_over:] + self._held
                self._pause(PAUSED_BY_CONNECT)
                self._go_on()
            else:
                self._parse(data[passed_over:], waiting)
        else:
            self._go_on()

    def _keep_complete(self) -> int:
        """Keep what is complete of a read whose last request is over a limit: that one alone is refused.

        Return how many of the queued requests stay.
        """
        if self._reading is None:
            if self._uploading:
                self._progress()
            return len(self._queue)
        return len(self._queue) - (self._reading in self._queue)

    def _go_on(self) -> None:
        """Act on what a read has brought."""
        if self.exchange is None:
            queue = self._queue
            if len(queue) == 1 and not self.full and not self._pumping:
                self._begin(queue.pop())
            elif queue:
                self._pump()
            elif self._line and not self._head_due:
                # The first bytes of a head that is not whole: it is due from now on, however it dribbles.
                self._head_due = True
                self.deadline = self.worker.deadlines.now + self._rules.timeouts.request_head
            return
        if self._uploading:
            self._progress()
        if self._queue:
            self._pause(PAUSED_BY_QUEUE)

    def _progress(self) -> None:
        """Bytes of the body of the exchange under way have arrived, or its end."""
        exchange, request = self.exchange, self._request
        if exchange is None or request is None:
            return
        self._uploading = not request.complete
        exchange.upload()
        if self._request is request:
            self._await_body(request)

    def _await_body(self, request: Request) -> None:
        """Set what time there is for the rest of a body; a long one is passed on without the parser."""
        if request.complete:
            self.deadline = NEVER
        elif not self._paused & ~PAUSED_FOR_TURN:
            self.deadline = self.worker.deadlines.now + request.rules.timeouts.idle
            left = request.head.length - request.received
            if left > BYPASS:
                self._unparsed = left

    def _add_unparsed(self, piece: bytes, *, is_last: bool) -> None:
        request = self._request
        if request is None:
            return
        request.add(piece)
        if is_last:
            request.end()
            self._reading = None
            self._fresh_parser()
        self._progress()

    # The order of requests.

    def _pump(self) -> None:
        """Begin what waits, then parse what was held back, until something has to be waited for."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self.full:
                if self.exchange is None and self._queue:
                    self._begin(self._queue.pop(0))
                elif self._held and self._may_parse():
                    self._parse(self._cut())
                else:
                    break
        finally:
            self._pumping = False
        if self._queue or self._held:
            self._pause(PAUSED_BY_QUEUE)
        elif self._paused & PAUSED_BY_QUEUE:
            self._resume(PAUSED_BY_QUEUE)

    def _may_parse(self) -> bool:
        """Whether what was held back has its turn: nothing is under way, or what is needs its body and has room."""
        request = self._request
        return request is None or not (request.complete or self._paused & PAUSED_BY_BODY)

    def _begin(self, request: Request) -> None:
        exchange = self._start(self, request)
        self._carry(exchange, request)
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

    def _carry(self, exchange: CallerEvents | None, request: Request | None) -> None:
        """Have this exchange, or none, under way."""
        self.exchange, self._request = exchange, request

    def _refuse(self, problem: Problem, waiting: int) -> None:
        """Answer an error of the request that is being read, after those before it, and read no more."""
        queue = self._queue
        while len(queue) > waiting:
            queue.pop()
        self._discarding = True
        self._held = b""
        refused = self._unreadable()
        exchange = self.exchange
        if exchange is not None and self._uploading:
            exchange.refuse(problem)
            return
        refused.refuse(problem)
        queue.append(refused)
        self._pump()

    # What the exchange asks for.

    def deliver(self, data: bytes) -> None:
        """Write a piece of a response."""
        self.transport.write(data)

    def exchange_over(self, *, keep_alive: bool) -> None:
        """The exchange is answered: go on with the next request, or end the connection as the response said."""
        request = self._request
        self._uploading = False
        if not keep_alive:
            # A caller that did not ask for the end may have sent more before it knew of it.
            unread = request is None or not request.complete or request.head.keep_alive
            # Some callers send on before they have the response to a CONNECT.
            self.close(unread=unread or bool(self._queue or self._held) or self._awaits_tunnel)
            self._carry(None, None)
            return
        self._carry(None, None)
        self._head_due = bool(self._line)
        if self.full:
            # The end of the response is still on its way: timeouts.write runs on, and what follows waits.
            return
        self._await_head()
        if self._queue or self._held or self._paused:
            # The upstream may have answered while it was too full for the end of the body.
            self._resume(PAUSED_BY_BODY)
            self._pump()

    def hand_over(self) -> tuple[asyncio.Transport, bytes, bool]:
        """Leave the transport, whose reading is paused, to a tunnel.

        With it what has arrived after the CONNECT, and whether the caller takes no more: a transport tells that once.
        """
        held, self._held = self._held, b""
        self._discarding = True
        self._carry(None, None)
        self.worker.deadlines.forget(self)
        self._forget_parser()
        return self.transport, held, self.full

    def hold_body(self) -> None:
        """Read no more of the body: it has nowhere to go yet."""
        self.deadline = NEVER
        self._pause(PAUSED_BY_BODY)

    def release_body(self) -> None:
        """Read on."""
        request = self._request
        if request is not None and not request.complete:
            self.deadline = self.worker.deadlines.now + request.rules.timeouts.idle
        self._resume(PAUSED_BY_BODY)
        if self._held:
            self._pump()

    # The end.

    def _await_head(self) -> None:
        """Between two exchanges: the next request may take its time to begin, but not to end its head."""
        timeouts = self._rules.timeouts
        seconds = timeouts.request_head if self._line else timeouts.keep_alive
        self.deadline = self.worker.deadlines.now + seconds

    def close_if_idle(self) -> bool:
        """Close the connection where nothing is under way and nothing has arrived; whether it did."""
        if self.idle_since == NEVER or not seal_if_quiet(self.transport):
            return False
        self.close()
        return True

    def wind_down(self, *, patient: bool) -> None:
        """Have the connection end as soon as nothing is under way.

        Where nothing has arrived, the end of stream is sent. The rest is up to the caller, for LINGER seconds: no other
        moment is known from which on nothing can come that a close would reset.
        """
        # One that was made just now has the time for its first request as well.
        is_idle = self.worker.deadlines.now - self.idle_since > TICK
        if not patient and is_idle and is_quiet(self.transport):
            self.close(unread=True)

    def end(self) -> None:
        """Close the connection now; where something is cut, by a reset."""
        self._close_now(cut=self.unsent or not self.is_idle)

    def _close_now(self, *, cut: bool) -> None:
        if not cut:
            drop_rest(self.transport)
        self.close(cut=cut)

    def close(self, *, unread: bool = False, cut: bool = False) -> None:
        """End the connection: after what was written (and, with `unread`, dropping what still comes), or by a reset.

        A reset is how a cut response shows, even where its body would have ended with the connection (RFC 9112 8).
        """
        self._discarding = True
        self._queue.clear()
        self._held = b""
        transport = self.transport
        now = self.worker.deadlines.now
        if cut:
            reset(transport)
        elif transport.is_closing():
            return
        elif unread and transport.can_write_eof():
            try:
                bare = transport.get_extra_info("ssl_object") is None
                if bare and not self.unsent:
                    # uvloop does it at its next turn, and what arrives until then would be lost.
                    half_close(transport)
                transport.write_eof()
            except OSError:
                # The caller may have reset it.
                transport.abort()
                return
            self._linger_until = now + LINGER_AT_MOST
            if not self.full:
                self.deadline = now + LINGER
            if self._paused:
                self._resume(self._paused)
        else:
            self.deadline = now + self._write_time
            transport.close()

    def expired(self) -> None:
        """A deadline passed: the caller is too slow with a head, a body or reading, or has been idle for long."""
        self.deadline = NEVER
        exchange = self.exchange
        if self._linger_until or self.transport.is_closing():
            # Where something is left to write, a reset tells the caller that the response is not whole.
            self._close_now(cut=self.unsent)
            self.transport.abort()
        elif exchange is not None:
            if self.full:
                exchange.caller_lost()
                self.close(cut=True)
            else:
                exchange.refuse(Problem("request_timeout", "the body came too slowly"))
        elif self.full:
            self.close(cut=True)
        elif self._line:
            self._refuse(Problem("request_timeout", "the head came too slowly"), 0)
        elif not is_quiet(self.transport):
            # It is read in this turn of the loop: a request that came in time is answered.
            self.deadline = self.worker.deadlines.now + TICK
        else:
            self.close(unread=True)

    # Backpressure.

    @property
    def _write_time(self) -> float:
        """How many seconds the caller has to take what is written."""
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
            if self._held:
                self._pump()
        elif self._linger_until:
            self.deadline = self.worker.deadlines.now + LINGER
        elif not self.transport.is_closing():
            self._await_head()
            self._resume(PAUSED_BY_BODY)
            self._pump()
