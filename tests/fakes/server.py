"""The base of every fake platform: host names on loopback addresses, TLS, recorded requests, switches.

A fake has one `Host` for each host name of the platform. Sidekey finds it by `network.hosts`, and because it demands
the default port of discovered base URLs, each listens on port 443 of a loopback address of its own.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from support import programs
from support.private_ca import Authority

PORT = 443


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A received request. `path` and `query` are unchanged; header names keep their case and order."""

    host: str
    """Host name of the server that received it, with any Host header."""
    method: str
    path: str
    query: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """Return every value of a header, by its lower-case name."""
        expected = name.encode()
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == expected]

    def value(self, name: str) -> str | None:
        """Return a header's value. Refuses the request with 400 if there are several."""
        result = self.values(name)
        if len(result) > 1:
            raise RefusedError(
                FakeResponse.json(400, {"error": "invalid_request", "error_description": f"{name} came twice"})
            )
        return result[0] if result else None

    @property
    def media_type(self) -> str:
        """Return the Content-Type without parameters, in lower case."""
        return (self.value("content-type") or "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """A response of a fake. aiohttp adds Date, Server and Content-Length."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @classmethod
    def json(cls, status: int, value: object, headers: Mapping[str, str] | None = None) -> FakeResponse:
        """Build a JSON response that must not be stored (RFC 6749 5.1)."""
        fields = {"Content-Type": "application/json;charset=UTF-8", "Cache-Control": "no-store"} | dict(headers or {})
        return cls(status, tuple(fields.items()), json.dumps(value).encode())


class RefusedError(Exception):
    """A request that breaks a rule of the platform. `response` is the error response."""

    def __init__(self, response: FakeResponse) -> None:
        super().__init__(response.status)
        self.response = response


Respond = Callable[[ReceivedRequest], FakeResponse]
"""Decides on one request; raises Refused where a rule is broken."""


def addresses() -> Iterator[str]:
    """Yield loopback addresses 127.x.y.z, where x and y depend on the process ID.

    x is at least 16, because only these fakes use such addresses. If two processes choose the same address, the
    second one cannot listen on it, and uses the next.
    """
    number = os.getpid()
    for step in range(240):
        x, y = 16 + (number // 256 + step) % 239, number % 256
        yield from (f"127.{x}.{y}.{z}" for z in range(1, 255))


_addresses = addresses()


def listen() -> socket.socket:
    """Open a socket on port 443 of a free loopback address. Skips the test if that is impossible."""
    failure: OSError | None = None
    for address in itertools.islice(_addresses, 100):
        try:
            return socket.create_server((address, PORT))
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRINUSE:
                break
    return programs.missing("port-443", f"the fakes of platforms listen on 127.x.y.z:{PORT}, which fails: {failure}")


@dataclass
class Host:
    """A host name of a platform. `respond` decides, and every attribute may change while it runs."""

    name: str
    respond: Respond
    address: str = ""
    """If empty, the first `open` chooses a free address, which stays the same."""
    port: int = PORT
    """If 0, with an address, the first `open` chooses a free port."""
    received: list[ReceivedRequest] = field(default_factory=list)
    """Every complete request, including refused ones."""
    switched: str = ""
    """The path for `delay` and `fail_next`, such as a token endpoint. If empty, every path."""
    delay: asyncio.Event | None = None
    """If set, requests are recorded at once, and their responses wait for this event. `close` sets it."""
    _failures: list[FakeResponse] = field(default_factory=list)
    _ssl: ssl.SSLContext | None = None
    _site: web.Server | None = None
    _server: asyncio.Server | None = None

    def fail_next(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        """Give the next request to `switched` this response. Each further call applies to one more request."""
        self._failures.append(FakeResponse(status, tuple((headers or {}).items()), body))

    async def open(self, ca: Authority | None = None) -> None:
        """Listen: first with the CA for the certificate, later again on the same address."""
        if ca is not None:
            self._ssl = ca.server_context(self.name)
        listener = socket.create_server((self.address, self.port)) if self.address else listen()
        self.address, self.port = listener.getsockname()
        self._site = web.Server(self._serve, access_log=None)
        self._server = await asyncio.get_running_loop().create_server(self._site, sock=listener, ssl=self._ssl)

    async def close(self) -> None:
        """Refuse new connections, and end the open ones."""
        if self._server is not None and self._site is not None:
            self._server.close()
            for connection in self._site.connections:
                if connection.transport is not None:
                    # Without an abort, TLS would wait for close_notify.
                    connection.transport.abort()
            if self.delay is not None:
                self.delay.set()
            await self._site.shutdown(15)
            await self._server.wait_closed()
            self._server = self._site = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        received = ReceivedRequest(
            self.name, request.method, path, query, tuple(request.raw_headers), await request.read()
        )
        self.received.append(received)
        switched = self.switched in ("", path)
        if switched and self.delay is not None:
            await self.delay.wait()
        reply = self._failures.pop(0) if switched and self._failures else self._decide(received)
        response = web.Response(status=reply.status, body=reply.body)
        for name, value in reply.headers:
            response.headers[name] = value
        return response

    def _decide(self, received: ReceivedRequest) -> FakeResponse:
        # RFC 9110 7.4 and 15.5.20: a server that is not responsible for the authority returns 421.
        if received.values("host") not in ([self.name], [f"{self.name}:{self.port}"]):
            return FakeResponse.json(421, {"error": f"{self.name} does not serve this Host"})
        try:
            return self.respond(received)
        except RefusedError as refused:
            return refused.response


class MinuteLimit:
    """A limit of actions in any 60 seconds. `limit` may change."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._times: deque[float] = deque()

    def admits(self) -> bool:
        """Count one action. Return False if it exceeds the limit."""
        now = time.monotonic()
        while self._times and self._times[0] <= now - 60:
            self._times.popleft()
        if len(self._times) >= self.limit:
            return False
        self._times.append(now)
        return True


class Platform:
    """`async with Fake(ca) as fake`: its hosts listen. `hosts` is for `network.hosts` of a config."""

    port = PORT

    def __init__(self, ca: Authority, *hosts: Host) -> None:
        self._ca = ca
        self._hosts = hosts
        self._stack = AsyncExitStack()

    @property
    def hosts(self) -> dict[str, list[str]]:
        """Return the address of each host name."""
        return {host.name: [host.address] for host in self._hosts}

    @property
    def received(self) -> list[ReceivedRequest]:
        """Return every received request, host by host."""
        return [received for host in self._hosts for received in host.received]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for host in self._hosts:
                await host.open(self._ca)
                stack.push_async_callback(host.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()


def read_json(received: ReceivedRequest) -> dict[str, Any] | None:
    """Parse the JSON object of a body. Return None without a body, an object or the media type."""
    if received.media_type != "application/json":
        return None
    try:
        value = json.loads(received.body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
