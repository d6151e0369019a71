"""A WebSocket: the bytes of both connections after the 101 response, with the slots and the log line of its request."""

from __future__ import annotations

from typing import Final

from sidekey.observe.access import AccessLine
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.limits import InFlightCounter
from sidekey.proxy.relay import Relay
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.proxy.worker import Worker


class WebSocket(Relay):
    """A WebSocket that an exchange has opened. It stays in flight until it ends.

    `counter` is the slot of its destination. `line` is the access line of the request, whose duration and bytes are
    those of the response head. `caller` is the connection that carried the handshake.
    """

    __slots__ = ("_began", "_caller", "_counter", "_line")

    def __init__(
        self,
        worker: Worker,
        idle_timeout: float,
        expires: float,
        *,
        caller: CallerConnection,
        counter: InFlightCounter | None,
        line: AccessLine,
    ) -> None:
        super().__init__(worker, idle_timeout, expires)
        self._caller: Final = caller
        self._counter: Final = counter
        self._line: Final = line
        self._began = 0.0

    def open(self, connection: UpstreamConnection, data: bytes) -> None:
        """Take over the transports of both connections, and start forwarding. `data` follows the 101 response."""
        worker, caller, upstream_end = self._worker, self._caller, self._upstream_end
        self._began = worker.begin_request()
        worker.metrics.tunnels["websocket"] += 1
        upstream, upstream_full = connection.release_transport(upstream_end)
        upstream_end.attach(upstream)
        transport, _, full = caller.release_transport()
        worker.replace_connection(caller, self)
        self.begin(transport, b"", full=full)
        if upstream_full:
            upstream_end.pause_writing()
        if data:
            upstream_end.data_received(data)

    def _ended(self, received: int, sent: int) -> None:
        worker, line = self._worker, self._line
        seconds = line.duration + worker.end_request(self._began)
        worker.metrics.tunnels["websocket"] -= 1
        if self._counter is not None:
            self._counter.leave()
        self._caller.transport_closed()
        if worker.access.logs_all:
            worker.access.write(line._replace(duration=seconds, bytes_in=received, bytes_out=line.bytes_out + sent))
