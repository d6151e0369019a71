"""A tunnel whose bytes pass untouched, without a credential: `forward.unmatched: pass`."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from sidekey.core import phases
from sidekey.dataplane.buffers import WRITE_BUFFER
from sidekey.dataplane.deadlines import NEVER
from sidekey.dataplane.sockets import address_of, reset
from sidekey.dataplane.tunnel.tunnel import Lifetime
from sidekey.dataplane.worker import Worker


class End(asyncio.Protocol):
    """One end of a passage: what is received here is written to the other one, as fast as that takes it."""

    __slots__ = ("_passage", "has_ended", "is_lost", "other", "received", "transport")

    transport: asyncio.Transport

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self.other: End | None = None
        self.received = 0
        self.has_ended = self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what comes with TCP until there is another end."""
        self.take(cast(asyncio.Transport, transport))
        self.transport.pause_reading()

    def take(self, transport: asyncio.Transport) -> None:
        """Use this transport."""
        self.transport = transport
        transport.set_write_buffer_limits(WRITE_BUFFER)

    def join(self, other: End) -> None:
        """Have another end from now on."""
        self.other = other

    def part(self) -> None:
        """Have no other end any more."""
        self.other = None

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        other = self.other
        if other is not None:
            self.received += len(data)
            self._passage.moved()
            other.transport.write(data)

    def pause_writing(self) -> None:
        """No more is taken here: read no more for it."""
        other = self.other
        if other is not None and not other.has_ended and not other.transport.is_closing():
            other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It takes more."""
        other = self.other
        self._passage.moved()
        if other is not None and not other.has_ended and not other.transport.is_closing():
            other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Pass the end of this direction on; the other may go on for long."""
        other = self.other
        self.has_ended = True
        if other is None or other.has_ended or other.transport.is_closing():
            return False
        self._passage.moved()
        other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """Closed here, so the other one closes."""
        self.is_lost = True
        other = self.other
        if other is None:
            return
        if not other.is_lost:
            if error is None:
                other.transport.close()
            else:
                reset(other.transport)
        self._passage.lost()


class Passage:
    """Two ends, and what holds for both: the time without a byte, the drain, the line in the log.

    `seconds` is timeouts.tunnel_idle at the CONNECT: the passage is one request, which keeps the rules it began with.
    """

    __slots__ = ("_connecting", "_far", "_lifetime", "_near", "_seconds", "_worker", "deadline")

    def __init__(self, worker: Worker, lifetime: Lifetime, seconds: float) -> None:
        self.deadline = NEVER
        self._worker: Final = worker
        self._lifetime: Final = lifetime
        self._seconds: Final = seconds
        self._connecting = 0.0
        self._near = End(self)
        self._far = End(self)

    @property
    def far(self) -> End:
        """The end at the target, which is connected first."""
        return self._far

    def connected(self, seconds: float) -> None:
        """The far end is connected, which has taken so long: that counts once the tunnel begins."""
        self._connecting = seconds

    def begin(self, transport: asyncio.Transport, data: bytes, *, full: bool) -> None:
        """As `Tunnel.begin`."""
        worker, near, far = self._worker, self._near, self._far
        self._lifetime.open(phases.FORWARDING, "passed")
        worker.metrics.upstream_open += 1
        worker.metrics.connections.record(self._connecting)
        self.moved()
        worker.deadlines.watch(self)
        near.take(transport)
        near.join(far)
        far.join(near)
        transport.set_protocol(near)
        for end in (near, far):
            if not end.transport.is_closing():
                end.transport.resume_reading()
        # Either may have one of them pause again.
        if full:
            near.pause_writing()
        if data:
            near.data_received(data)

    def moved(self) -> None:
        """Something has moved: there is time again."""
        self.deadline = self._worker.deadlines.now + self._seconds

    def lost(self) -> None:
        """One end is closed: the other closes after what was written to it, or with a reset where this one had."""
        near, far, worker = self._near, self._far, self._worker
        if not (near.is_lost and far.is_lost):
            # What is left to write has timeouts.write, as with any other connection that closes.
            self.deadline = worker.deadlines.now + worker.rules.timeouts.write
            return
        ended = self._lifetime.end(
            received=near.received,
            sent=far.received,
            upstream=address_of(far.transport),
            connect=self._connecting,
        )
        if not ended:
            return
        worker.metrics.upstream_open -= 1
        worker.leave_passage(self)
        worker.closed(self)
        worker.deadlines.forget(self)
        near.part()
        far.part()

    def expired(self) -> None:
        """Nothing has moved for too long."""
        self.deadline = NEVER
        self.end()

    # As a connection of the worker.

    @property
    def idle_since(self) -> float:
        """Never: nobody can tell whether a response is awaited. `timeouts.tunnel_idle` ends it."""
        return NEVER

    @property
    def unsent(self) -> bool:
        """Whether something was received for the caller that has not left yet."""
        return not self._near.is_lost and self._near.transport.get_write_buffer_size() > 0

    def close_if_idle(self) -> bool:
        """Make no room for other connections."""
        return False

    def wind_down(self, *, patient: bool) -> None:
        """Let it go on: its bytes may be a response."""

    def end(self) -> None:
        """Cut both ends, by a reset: what has passed must not look complete."""
        for end in (self._near, self._far):
            if not end.is_lost:
                reset(end.transport)
