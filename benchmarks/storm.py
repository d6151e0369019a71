"""Effect of SIGTERM on callers under load: each request's end, at a constant rate over kept and new connections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

ANSWERED = "answered"
ENDED = "ended without a response"
RESET = "reset"
"""However late the request was sent: a caller cannot tell whether it had arrived when the connection was closed, so the
requests that came after that count as well."""

_LENGTH = b"\r\ncontent-length: "
_LAST = b"\r\nconnection: close\r\n"


class Caller(asyncio.Protocol):
    """A connection. `ends` counts how its requests ended."""

    def __init__(self, ends: Counter[str], request: bytes) -> None:
        self.open = False
        self.over: asyncio.Future[None] | None = None
        """Done once the request under way has ended."""
        self.lost = asyncio.Event()
        self._ends = ends
        self._request = request
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    @property
    def waits(self) -> bool:
        """Return True while a request is in flight."""
        return self.over is not None and not self.over.done()

    async def ask(self) -> None:
        """Send one request and wait for its end."""
        self.over = asyncio.get_running_loop().create_future()
        self._received = b""
        self._transport.write(self._request)
        await self.over

    def leave(self) -> None:
        """Close the connection."""
        self.open = False
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take a piece of a response."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        lower = head.lower() + b"\r\n"
        length = int(lower.partition(_LENGTH)[2].partition(b"\r\n")[0] or 0)
        if not end or len(body) < length:
            return
        if _LAST in lower:
            self.leave()
        self._count(ANSWERED if head.startswith(b"HTTP/1.1 200 ") else head[9:12].decode())

    def eof_received(self) -> None:
        """Send no more requests: the proxy closes the connection."""
        self.open = False

    def connection_lost(self, error: Exception | None) -> None:
        """Count the end of a request without a response. A reset counts without a request, too."""
        self.open = False
        self.lost.set()
        if self.waits:
            self._count(ENDED if error is None else RESET)
        elif error is not None:
            self._ends[RESET] += 1

    def _count(self, end: str) -> None:
        if self.over is not None and not self.over.done():
            self._ends[end] += 1
            self.over.set_result(None)


class Storm:
    """Requests to a port of loopback: `rate` a second over `kept` connections in turn, and `fresh` ones on new ones.

    It goes on until no connection can be made. `ends` is what became of the requests.
    """

    def __init__(self, port: int, path: str, *, rate: int = 1_000, kept: int = 64, fresh: int = 1_000) -> None:
        self.ends: Counter[str] = Counter()
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self._rate, self._kept, self._fresh = rate, kept, fresh
        self._end = asyncio.Event()
        self._callers: list[Caller] = []

    async def run(self, act: Callable[[], object], seconds: float) -> Counter[str]:
        """Load for `seconds`, call `act`, continue to the end, and return how the requests ended."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._kept):
                tasks.create_task(self._keep(number / self._rate))
            tasks.create_task(self._come(tasks))
            await asyncio.sleep(seconds)
            act()
        for caller in self._callers:
            caller.leave()
            await caller.lost.wait()
        return self.ends

    async def _connect(self) -> Caller | None:
        loop = asyncio.get_running_loop()
        try:
            _, caller = await loop.create_connection(lambda: Caller(self.ends, self._request), "127.0.0.1", self._port)
        except ConnectionRefusedError:
            self._end.set()
            return None
        except OSError:
            self.ends[RESET] += 1
            return None
        self._callers.append(caller)
        return caller

    async def _keep(self, delay: float) -> None:
        """Send requests on one connection, and open another when it ends."""
        await asyncio.sleep(delay)
        loop = asyncio.get_running_loop()
        due, caller = loop.time(), await self._connect()
        while not self._end.is_set():
            if caller is None or not caller.open:
                caller = await self._connect()
            else:
                await caller.ask()
            due += self._kept / self._rate
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _come(self, tasks: asyncio.TaskGroup) -> None:
        """Send each request on a new connection."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._end.is_set():
            tasks.create_task(self._visit())
            due += 1 / self._fresh
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _visit(self) -> None:
        caller = await self._connect()
        if caller is not None:
            await caller.ask()
            if caller.open:
                caller.leave()
