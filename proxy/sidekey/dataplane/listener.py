"""A caller's connection at the doors: parses requests, keeps their order, and knows how the connection ends."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade

from sidekey.dataplane.buffers import THROUGH, WRITE_BUFFER
from sidekey.dataplane.deadlines import NEVER
from sidekey.dataplane.exchange import Exchange
from sidekey.dataplane.request_reader import RequestReader
from sidekey.dataplane.request_rules import OTHER_PROTOCOL
from sidekey.errors import Problem

if TYPE_CHECKING:
    from sidekey.dataplane.plane import Plane

SHORT_READ = 4 << 10
"""A read of no more bytes than this is parsed whole, however many requests it holds: its length bounds them."""
LINGER = 2.0
LINGER_AT_MOST = 30.0
"""Seconds, from the last byte and in all, for which what a caller still sends is read and dropped, so that a reset does
not overtake our answer."""

# Why reading is held, as bits.
HOLD_QUEUE = 1
HOLD_BODY = 2

_RESET = struct.pack("ii", 1, 0)


class CallerConnection(RequestReader, asyncio.Protocol):
    """One connection of a caller. `exchange` is the one being answered; later requests wait in `_queue`.

    `_held` are bytes kept back from the parser while the queue is full; `_deaf` is set once the connection's end is
    certain: what still arrives has no meaning any more.
    """

    __slots__ = (
        "_deaf",
        "_head_due",
        "_holds",
        "_linger_until",
        "_pumping",
        "_through",
        "_write_full",
        "answering",
        "deadline",
        "exchange",
        "transport",
    )

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane)
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.answering = False
        self._holds = 0
        self._through = 0
        self._linger_until = 0.0
        self._head_due = True
        self._pumping = False
        self._deaf = False
        self._write_full = False

    @property
    def unsent(self) -> bool:
        """Whether part of an answer has not left yet."""
        return self.transport.get_write_buffer_size() > 0

    @property
    def is_idle(self) -> bool:
        """Whether no exchange is under way."""
        return self.exchange is None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)
        plane = self.plane
        plane.connections.add(self)
        plane.deadlines.watched.add(self)
        self.deadline = plane.deadlines.now + plane.timeouts.request_head

    def connection_lost(self, _: Exception | None) -> None:
        plane = self.plane
        plane.connections.discard(self)
        plane.deadlines.watched.discard(self)
        self._deaf = True
        self._queue.clear()
        exchange = self.exchange
        self.exchange = None
        if exchange is not None:
            exchange.caller_lost()
        self._forget_parser()

    def eof_received(self) -> bool:
        """A caller that closes its side has left, as nginx has it: the exchange is given up with the connection."""
        return False

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            if self._linger_until and not self._write_full:
                self.deadline = min(self.plane.deadlines.now + LINGER, self._linger_until)
            return
        if self._through:
            data = self._hand_through(data)
            if not data:
                return
        if self._held or (len(data) > SHORT_READ and self._crowded(data)):
            self._held += data
            self._hold(HOLD_QUEUE)
            self._pump()
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Feed one read to the parser and act on what it completed; one that does not parse is not acted on at all."""
        waiting = len(self._queue)
        limit = self.plane.limits.request_head
        in_head = self._in_head
        self._check_size = in_head or len(data) > limit
        try:
            self._feed(data)
        except HttpParserUpgrade as upgrade:
            self._pass_over_upgrade()
            self._parse(data[upgrade.args[0] :])
            return
        except HttpParserError as error:
            self._refuse(self._fault_of(error), waiting)
            return
        if not in_head and b" HTTP/1." not in data and len(self._queue) > waiting:
            # llhttp takes RTSP and ICE heads too, and does not tell. In several reads, or behind another request, such
            # a head is carried as the HTTP that it otherwise is.
            self._refuse(OTHER_PROTOCOL, waiting)
            return
        reading = self._reading
        if reading is not None and (fault := self._bound(reading, len(data), was_in_head=in_head)) is not None:
            self._refuse(fault, waiting)
            return
        exchange = self.exchange
        if exchange is None:
            queue = self._queue
            if len(queue) == 1 and not self._write_full and not self._pumping:
                self._begin(queue.popleft())
            elif queue:
                self._pump()
            elif not self._head_due:
                # The first bytes of a head that is not whole: it is due from now on, however it dribbles.
                self._head_due = True
                self.deadline = self.plane.deadlines.now + self.plane.timeouts.request_head
            return
        if exchange.uploading:
            self._progress(exchange)
        if self._queue:
            self._hold(HOLD_QUEUE)

    def _progress(self, exchange: Exchange) -> None:
        """Bytes of the body of the exchange under way have arrived."""
        plane = self.plane
        exchange.upload()
        if exchange.finished:
            # It has set what time there is for the next request, or for the end.
            return
        if exchange.complete:
            self.deadline = NEVER
        elif not self._holds:
            self.deadline = plane.deadlines.now + plane.timeouts.idle
            if exchange.length - exchange.received > THROUGH:
                self._through = exchange.length - exchange.received

    def _hand_through(self, data: bytes) -> bytes:
        """Pass a piece of a long body on; answers what comes after its end."""
        exchange = self.exchange
        left = self._through - len(data)
        rest = b""
        if exchange is None:
            return rest
        if left <= 0:
            data, rest = data[: self._through], data[self._through :]
            left = 0
            exchange.complete = True
            self._reading = None
            self._fresh_parser()
        self._through = left
        exchange.received += len(data)
        exchange.body.append(data)
        self._progress(exchange)
        return rest

    # The order of requests.

    def _pump(self) -> None:
        """Begin what waits, then parse what was held back, until something has to be waited for."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while not self._write_full:
                if self.exchange is None and self._queue:
                    self._begin(self._queue.popleft())
                elif self._held and self._may_parse():
                    self._parse(self._cut())
                else:
                    break
        finally:
            self._pumping = False
        if self._queue or self._held:
            self._hold(HOLD_QUEUE)
        elif self._holds & HOLD_QUEUE:
            self._release(HOLD_QUEUE)

    def _may_parse(self) -> bool:
        """Whether what was held back has its turn: nothing is under way, or what is needs its body and has room."""
        exchange = self.exchange
        return exchange is None or not (exchange.complete or self._holds & HOLD_BODY)

    def _begin(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.answering = self._head_due = False
        if exchange.complete:
            self.deadline = NEVER
        else:
            exchange.uploading = True
            self.deadline = self.plane.deadlines.now + self.plane.timeouts.idle
        exchange.begin()
        if exchange.uploading and not self._holds and not exchange.finished:
            self._progress(exchange)

    def _refuse(self, fault: Problem, waiting: int) -> None:
        """Answer a fault of the request that is being read, after those before it, and listen no more."""
        queue = self._queue
        while len(queue) > waiting:
            queue.pop()
        self._deaf = True
        self._held = b""
        reading, self._reading = self._reading, None
        exchange = self.exchange
        if exchange is not None and exchange.uploading:
            exchange.fail(fault)
            return
        faulty = reading or Exchange(self)
        faulty.fault = fault
        faulty.complete = faulty.keep_alive = False
        queue.append(faulty)
        self._pump()

    def exchange_over(self, exchange: Exchange) -> None:
        """The exchange is answered: go on with the next request, or end the connection as the answer said."""
        self.exchange = None
        self.answering = False
        if not exchange.keep_alive:
            self.close(unread=not exchange.complete or bool(self._queue or self._held))
            return
        self._head_due = self._in_head
        if self._write_full:
            # The end of the answer is still on its way: timeouts.write runs on, and what follows waits.
            return
        self._await_head()
        if self._queue or self._held or self._holds:
            # The upstream may have answered while it was too full for the end of the body.
            self._release(HOLD_BODY)
            self._pump()

    def _await_head(self) -> None:
        """Between two exchanges: the next request may take its time to begin, but not to end its head."""
        plane = self.plane
        timeouts = plane.timeouts
        self.deadline = plane.deadlines.now + (timeouts.request_head if self._in_head else timeouts.keep_alive)

    def close_if_idle(self) -> None:
        """Close the connection where nothing is under way."""
        if self.exchange is None and not self._linger_until:
            self.close()

    def close(self, *, unread: bool = False, cut: bool = False) -> None:
        """End the connection: after what was written (and, with `unread`, dropping what still comes), or by a reset.

        A reset is how a cut answer shows, even where its body would have ended with the connection (RFC 9112 8).
        """
        self._deaf = True
        self._queue.clear()
        self._held = b""
        transport = self.transport
        now = self.plane.deadlines.now
        if cut:
            sock: socket.socket | None = transport.get_extra_info("socket")
            if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        elif transport.is_closing():
            return
        elif unread and transport.can_write_eof():
            try:
                transport.write_eof()
            except OSError:
                # asyncio shuts the socket down at once, and the caller may have reset it.
                transport.abort()
                return
            self._linger_until = now + LINGER_AT_MOST
            if not self._write_full:
                self.deadline = now + LINGER
            if self._holds:
                self._release(self._holds)
        else:
            self.deadline = now + self.plane.timeouts.write
            transport.close()

    def expired(self) -> None:
        """A deadline passed: the caller is too slow with a head, a body or reading, or has been idle for long."""
        self.deadline = NEVER
        exchange = self.exchange
        if self._linger_until or self.transport.is_closing():
            # Where something is left to write, a reset tells the caller that the answer is not whole.
            self.close(cut=self.unsent)
            self.transport.abort()
        elif exchange is not None:
            if self._write_full:
                exchange.caller_lost()
                self.close(cut=True)
            else:
                exchange.fail(Problem("request_timeout", "the body came too slowly"))
        elif self._write_full:
            self.close(cut=True)
        elif self._in_head:
            self._refuse(Problem("request_timeout", "the head came too slowly"), 0)
        else:
            self.close()

    # Backpressure.

    def pause_writing(self) -> None:
        self._write_full = True
        self.deadline = self.plane.deadlines.now + self.plane.timeouts.write
        if self.exchange is not None:
            self.exchange.caller_full()

    def resume_writing(self) -> None:
        self._write_full = False
        exchange = self.exchange
        if exchange is not None:
            plane = self.plane
            self.deadline = NEVER if exchange.complete else plane.deadlines.now + plane.timeouts.idle
            exchange.caller_drained()
            if self._held:
                self._pump()
        elif self._linger_until:
            self.deadline = self.plane.deadlines.now + LINGER
        elif not self.transport.is_closing():
            self._await_head()
            self._release(HOLD_BODY)
            self._pump()

    def hold_body(self) -> None:
        """Read no more of the body: it has nowhere to go yet."""
        self.deadline = NEVER
        self._hold(HOLD_BODY)

    def release_body(self) -> None:
        """Read on."""
        exchange = self.exchange
        if exchange is not None and not exchange.complete:
            self.deadline = self.plane.deadlines.now + self.plane.timeouts.idle
        self._release(HOLD_BODY)
        if self._held:
            self._pump()

    def _hold(self, why: int) -> None:
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= why

    def _release(self, why: int) -> None:
        if self._holds:
            self._holds &= ~why
            if not self._holds and not self.transport.is_closing():
                self.transport.resume_reading()
