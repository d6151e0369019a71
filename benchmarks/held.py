"""Many requests in flight: an upstream that delays all responses, and as many callers."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from benchmarks import wire
from benchmarks.load import REQUEST_BODY, RESPONSE_BODY
from benchmarks.probe import CHECK
from benchmarks.processes import MeasureFailed
from benchmarks.upstream import Upstream

_SECONDS = 25.0
"""Proxies give an upstream 30 seconds or more to respond."""


class HeldUpstream:
    """The upstream, on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connections: list[wire.Requests] = []
        self._held: list[wire.Write] = []
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._thread.start()
        listening = self._loop.create_server(self._connection, "127.0.0.1", 0, backlog=4096)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        self.upstream = Upstream(self._server.sockets[0].getsockname()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _connection(self) -> wire.Requests:
        connection = wire.Requests(self._handle)
        self._connections.append(connection)
        return connection

    async def _end(self) -> None:
        """Close the listener and each connection before the loop stops, because a closed loop closes none."""
        self._server.close()
        await asyncio.gather(*(connection.end() for connection in self._connections))

    def _handle(self, head: wire.Head, _: bytes, write: wire.Write) -> None:
        """Respond to a check. Keep any other request in flight."""
        if head.start[1].endswith(f"/{CHECK}"):
            write(wire.echo(head))
            return
        with self._changed:
            self._held.append(write)
            self._changed.notify()

    def await_held(self, count: int) -> None:
        """Wait until this many requests are in flight. Raises MeasureFailed."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._held) >= count, _SECONDS):
                raise MeasureFailed(f"only {len(self._held)} of {count} requests reached the upstream")

    def release(self) -> None:
        """Respond to all requests in flight."""
        with self._changed:
            connections, self._held = self._held, []
        for write in connections:
            self._loop.call_soon_threadsafe(write, wire.response(RESPONSE_BODY))


class Callers:
    """Callers that have each sent one request and wait. Leaving the block closes their connections."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self._stack = ExitStack()
        self._connections: list[socket.socket] = []
        request = wire.request("POST", path, REQUEST_BODY)
        with ExitStack() as guard:
            guard.push(self._stack)
            for _ in range(count):
                connection = self._stack.enter_context(socket.create_connection(("127.0.0.1", port), _SECONDS))
                connection.sendall(request)
                self._connections.append(connection)
            guard.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def expect_responses(self) -> None:
        """Read the response of each caller. Raises MeasureFailed if one is not a 200."""
        for connection in self._connections:
            head, _ = wire.receive_head(connection)
            wire.expect_success(head)
