"""Forward the bytes of two connections to each other unchanged: a passthrough tunnel, or a WebSocket."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final, cast

from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.transport import WRITE_BUFFER, address_of, reset
from sidekey.proxy.worker import Worker


class RelayEnd(asyncio.Protocol):
    """One end of a relay. It writes the bytes that it receives to the other end, and pauses while that is full."""

    __slots__ = ("_early", "_relay", "has_ended", "is_lost", "other", "received", "transport")

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.other: RelayEnd | None = None
        self.received = 0
        self._early = b""
        self.has_ended = self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pause reading until there is another end."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)
        self.transport.pause_reading()

    def take_over(self, transport: asyncio.Transport) -> None:
        """Become the protocol of a transport that another one has used. Its limits stay."""
        self.transport = transport
        transport.set_protocol(self)

    def link(self, other: RelayEnd) -> None:
        """Forward to this end from now on."""
        self.other = other
        if self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def unlink(self) -> None:
        """Break the reference cycle between both ends."""
        self.other = None

    def data_received(self, data: bytes) -> None:
        """Forward the data."""
        other = self.other
        if other is not None:
            self.received += len(data)
            self._relay.restart_deadline()
            other.transport.write(data)
        elif not self.is_lost:
            # A parent proxy may send these with its response to CONNECT, although reading is paused.
            self._early += data

    def pause_writing(self) -> None:
        """Pause reading at the other end, because the write buffer of this end is full."""
        other = self.other
        if other is not None and not other.has_ended and not other.transport.is_closing():
            other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading at the other end. If that is lost, the deadline stays that of its unsent bytes."""
        other = self.other
        if other is None or other.is_lost:
            return
        self._relay.restart_deadline()
        if not other.has_ended and not other.transport.is_closing():
            other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Forward the end of stream. The other direction may stay open for long, but not with TLS."""
        other = self.other
        self.has_ended = True
        if other is None or other.has_ended or other.transport.is_closing():
            return False
        if other.transport.get_extra_info("ssl_object") is not None:
            # After close_notify, `TlsTransport` drops what still arrives. Both ends close once their bytes are sent.
            return False
        self._relay.restart_deadline()
        other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Close the other end."""
        self.is_lost = True
        other = self.other
        if other is None:
            return
        if not other.is_lost:
            if error is None:
                # Also if TLS ended without close_notify: a reset would discard bytes that are still unread, and a close
                # frame shows whether a WebSocket is complete (RFC 6455 7.1.5).
                other.transport.close()
            else:
                reset(other.transport)
        self._relay.end_once_closed()


class Relay(ABC):
    """Two ends and their deadline. A subclass counts and logs what they carried.

    `idle_timeout` is the number of seconds without a byte after which both ends are cut. A later reload does not change
    it. `expires` is the time by the loop's clock at which they are cut in any case. `_cut_reason` says why Sidekey has
    cut them, and is empty otherwise.
    """

    __slots__ = ("_caller_end", "_cut_reason", "_expires", "_idle_timeout", "_upstream_end", "_worker", "deadline")

    def __init__(self, worker: Worker, idle_timeout: float, expires: float = NEVER) -> None:
        self.deadline = NEVER
        self._worker: Final = worker
        self._idle_timeout: Final = idle_timeout
        self._expires: Final = expires
        self._cut_reason = ""
        self._caller_end = RelayEnd(self)
        self._upstream_end = RelayEnd(self)

    @abstractmethod
    def _ended(self, received: int, sent: int) -> None:
        """Count and log the relay. `received` and `sent` are the bytes from and to the caller. Called once."""

    @property
    def upstream_end(self) -> RelayEnd:
        """The end at the upstream. It has its transport first."""
        return self._upstream_end

    def begin(self, transport: asyncio.Transport, data: bytes, *, full: bool) -> None:
        """Start forwarding between the upstream's transport and this one, the caller's.

        `data` are bytes that the caller has already sent. `full` is True if the caller's write buffer is full until
        `resume_writing`.
        """
        worker, caller_end, upstream_end = self._worker, self._caller_end, self._upstream_end
        worker.metrics.upstream_open += 1
        self.restart_deadline()
        worker.deadlines.watch(self)
        caller_end.take_over(transport)
        caller_end.link(upstream_end)
        upstream_end.link(caller_end)
        for end in (caller_end, upstream_end):
            if not end.transport.is_closing():
                end.transport.resume_reading()
        # These may pause an end again.
        if full:
            caller_end.pause_writing()
        if data:
            caller_end.data_received(data)

    def restart_deadline(self) -> None:
        """Restart the idle deadline, because bytes have moved."""
        self.deadline = min(self._worker.deadlines.now + self._idle_timeout, self._expires)

    def end_once_closed(self) -> None:
        """End the relay if both ends are closed. Otherwise limit the time in which the second end may close."""
        caller_end, upstream_end, worker = self._caller_end, self._upstream_end, self._worker
        if not (caller_end.is_lost and upstream_end.is_lost):
            # `timeouts.write` limits the pending writes, as on any connection that closes.
            self.deadline = worker.deadlines.now + worker.rules.timeouts.write
            return
        worker.metrics.upstream_open -= 1
        worker.unregister(self)
        worker.deadlines.forget(self)
        caller_end.unlink()
        upstream_end.unlink()
        self._ended(caller_end.received, upstream_end.received)

    def expired(self) -> None:
        """Cut both ends: no byte has moved for too long, or the time is over."""
        self.deadline = NEVER
        if self._caller_end.is_lost or self._upstream_end.is_lost:
            self.cut("the last bytes were not read within timeouts.write")
        elif self._worker.deadlines.now >= self._expires:
            self.cut("timeouts.total is over")
        else:
            self.cut("no byte has moved for timeouts.tunnel_idle")

    @property
    def _upstream_address(self) -> str:
        return address_of(self._upstream_end.transport)

    # As a connection of the worker.

    @property
    def idle_since(self) -> float:
        """NEVER: Sidekey cannot see whether the caller awaits a response. `timeouts.tunnel_idle` ends the relay."""
        return NEVER

    @property
    def unsent(self) -> bool:
        """True if bytes for the caller are still unsent."""
        return not self._caller_end.is_lost and self._caller_end.transport.get_write_buffer_size() > 0

    def close_if_idle(self) -> bool:
        """Return False: a relay never makes room for other connections."""
        return False

    def wind_down(self, *, patient: bool) -> None:  # noqa: B027 - nothing is to be done, in any relay
        """Do nothing: the bytes may be a response."""

    def end(self) -> None:
        """Cut both ends: Sidekey stops."""
        self.cut("Sidekey has stopped, and timeouts.drain is over")

    def cut(self, reason: str) -> None:
        """Reset both ends, so that the stream does not look complete."""
        self._cut_reason = self._cut_reason or reason
        for end in (self._caller_end, self._upstream_end):
            if not end.is_lost:
                reset(end.transport)
