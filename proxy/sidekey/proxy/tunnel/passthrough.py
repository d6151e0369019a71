"""A tunnel that forwards bytes unchanged and without a credential (`forward.unmatched: pass`)."""

from __future__ import annotations

import asyncio
from typing import Final

from sidekey.proxy import states
from sidekey.proxy.relay import Relay
from sidekey.proxy.tunnel.tunnel import TunnelRecord
from sidekey.proxy.worker import Worker


class PassthroughTunnel(Relay):
    """The tunnel, with its line in the log. `idle_timeout` is `timeouts.tunnel_idle` at the CONNECT."""

    __slots__ = ("_connect_seconds", "_record")

    def __init__(self, worker: Worker, record: TunnelRecord, idle_timeout: float) -> None:
        super().__init__(worker, idle_timeout)
        self._record: Final = record
        self._connect_seconds = 0.0

    def set_connect_seconds(self, seconds: float) -> None:
        """Set the time that Sidekey took to connect to the target."""
        self._connect_seconds = seconds

    def begin(self, transport: asyncio.Transport, data: bytes, *, full: bool) -> None:
        """Start forwarding; see `Tunnel.begin`."""
        self._record.open(states.FORWARDING, "passed")
        self._worker.metrics.connections.record(self._connect_seconds)
        super().begin(transport, data, full=full)

    def _ended(self, received: int, sent: int) -> None:
        self._record.end(received=received, sent=sent, upstream=self._upstream_address, connect=self._connect_seconds)
        self._worker.leave_passthrough(self)
