"""A WebSocket: the bytes of both connections after the 101 response, with the slots and the log line of its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sidekey.observe.access import AccessLine
from sidekey.policy.callers import Caller
from sidekey.policy.decide import apply_rules
from sidekey.policy.decision import Denied
from sidekey.policy.headers import Role
from sidekey.policy.messages import RequestHead
from sidekey.policy.websocket import may_begin_stream
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.limits import InFlightCounter
from sidekey.proxy.relay import Relay, RelayEnd
from sidekey.proxy.routing.compiled import CompiledIntegration, Destination
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.proxy.worker import Worker


class CallerEnd(RelayEnd):
    """The caller's end. It forwards nothing until two bytes show that a frame begins, and no HTTP request.

    `_start` is the first byte, if it came alone, and None once a frame has begun.
    """

    __slots__ = ("_start",)

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._start: bytes | None = b""

    def data_received(self, data: bytes) -> None:
        """Forward the data, or cut the WebSocket if it does not begin with a frame."""
        if self._start is not None:
            self._start = data = self._start + data
            if len(data) < 2:
                return
            if not may_begin_stream(data):
                self._relay.cut("the caller's first bytes are not a masked frame (RFC 6455 5.1)")
                return
            self._start = None
        super().data_received(data)


class WebSocket(Relay):
    """A WebSocket that an exchange has opened. It stays in flight, and counts as a tunnel, until it ends.

    `counter` is the slot of its destination. `line` is the access line of the request, whose duration and bytes are
    those of the response head. `caller` is the connection that carried the handshake, and `keys` identified the caller.
    `destination` is that of the handshake.
    """

    __slots__ = ("_began", "_caller", "_counter", "_handshake", "_keys", "_line", "_origin")

    def __init__(
        self,
        worker: Worker,
        idle_timeout: float,
        expires: float,
        *,
        caller: CallerConnection,
        counter: InFlightCounter | None,
        line: AccessLine,
        keys: frozenset[bytes],
        destination: Destination,
    ) -> None:
        super().__init__(worker, idle_timeout, expires)
        self._caller_end = CallerEnd(self)
        self._caller: Final = caller
        self._counter: Final = counter
        self._line: Final = line
        self._keys: Final = keys
        route = destination.route
        self._origin: Final = route.origin
        url = b"%b://%b%b" % (route.scheme, route.authority, destination.path)
        self._handshake: Final = RequestHead(b"GET", url, None, [], [], {Role.UPGRADE: b"websocket"})
        self._began = 0.0

    def open(self, connection: UpstreamConnection, data: bytes) -> None:
        """Take over the transports of both connections, and start forwarding. `data` follows the 101 response."""
        worker, caller, upstream_end = self._worker, self._caller, self._upstream_end
        self._began = worker.begin_request()
        worker.metrics.tunnels["websocket"] += 1
        upstream, upstream_full = connection.release_transport()
        upstream_end.take_over(upstream)
        transport, _, full = caller.release_transport()
        worker.replace_connection(caller, self)
        self.begin(transport, b"", full=full)
        if upstream_full:
            upstream_end.pause_writing()
        if data:
            upstream_end.data_received(data)

    @property
    def integration(self) -> str:
        """The ID of the integration."""
        return self._line.integration

    def apply_rules(self, integration: CompiledIntegration | None, callers: Mapping[bytes, Caller] | None) -> None:
        """Cut the WebSocket unless a new config still allows it to its caller. `callers` are those of the config."""
        certified = self._caller.certified
        if integration is None or not self._is_allowed(integration):
            self.cut("the integration no longer allows this WebSocket")
        elif callers is not None and not self._is_caller(callers, integration):
            self.cut("the caller may no longer use the integration, or has other credentials")
        elif certified is not None and not certified.is_trusted:
            self.cut("the CA of the client certificate is no longer trusted")

    def _is_allowed(self, integration: CompiledIntegration) -> bool:
        """Return True if the integration still allows the handshake at the same origin."""
        decision = apply_rules(self._handshake, integration)
        if isinstance(decision, Denied):
            return False
        return decision.target is not None and decision.target.origin == self._origin

    def _is_caller(self, callers: Mapping[bytes, Caller], integration: CompiledIntegration) -> bool:
        """Return True if all keys still identify the caller, and it may use the integration."""
        found = [callers.get(key) for key in self._keys]
        return bool(found) and all(
            caller is not None and caller.name == self._line.caller and caller.may_use(integration.name)
            for caller in found
        )

    def _ended(self, received: int, sent: int) -> None:
        worker, line, reason = self._worker, self._line, self._cut_reason
        seconds = line.duration + worker.end_request(self._began)
        worker.metrics.tunnels["websocket"] -= 1
        worker.leave_websocket(line.caller)
        if self._counter is not None:
            self._counter.leave()
        self._caller.transport_closed()
        if worker.access.logs_all or (reason and worker.access.logs_errors):
            sent += line.bytes_out
            worker.access.write(line._replace(reason=reason, duration=seconds, bytes_in=received, bytes_out=sent))
