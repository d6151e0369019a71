"""Runs an aiohttp application on an address of the config, without aiohttp's own texts, logs and leniency."""

from __future__ import annotations

import asyncio
import logging
import ssl
from functools import partial
from typing import cast

from aiohttp import web, web_response
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from sidekey.admin.guard import Handler
from sidekey.network.listen import Listener, listen
from sidekey.network.tls_transport import TlsTransport
from sidekey.runtime.snapshot import Address

HEAD_TIMEOUT = 10.0
"""Seconds from a connection to its first complete request head; aiohttp has no such limit."""

GRACE = 5.0
"""Seconds that responses under way get when the listener closes."""

KEEP_ALIVE = 75.0
"""Seconds that an idle connection stays; a scraper comes back within them."""

MOST = 32
"""Connections of one listener, each of which takes a descriptor that the data plane may need."""

_BACKLOG = 16
"""How many may wait to be accepted, at least: whom the kernel turns away comes back after a second, too late for a
probe."""

# aiohttp names itself and Python in `Server`, also in its responses to malformed requests, which no signal or
# middleware of an application sees.
web_response.SERVER_SOFTWARE = "sidekey"  # type: ignore[attr-defined]


def _is_defect(record: logging.LogRecord) -> bool:
    """Tell a defect of ours from a malformed request, which its sender learns of and which must not fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER = logging.getLogger("sidekey.admin")
_LOGGER.addFilter(_is_defect)


def is_whole(request: web.BaseRequest) -> bool:
    """Whether all of a request has arrived."""
    return not request.body_exists or request.content.is_eof()


def _closing(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The response, after which the connection closes where the body was not read: it would be taken for a request."""
    if not is_whole(request) and not response.prepared:
        response.force_close()
    return response


class _Handler(RequestHandler):
    """A connection, whose malformed requests are told nothing of what they sent: aiohttp would repeat the line."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to what is no request, or to a defect."""
        del message
        return super().handle_error(request, status, exc, "the request is malformed\n")


class _Connections:
    """Ends the connections that send no request head in time, and those that make room for others.

    With `tls` each begins with a handshake, in which it counts as well: aiohttp learns of it only afterwards.
    """

    def __init__(self, most: int, tls: ssl.SSLContext | None) -> None:
        self._most = most
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[RequestHandler, asyncio.TimerHandle] = {}
        self._shaking: dict[RequestHandler, TlsTransport] = {}
        self._responding: set[RequestHandler] = set()

    def open(self, server: web.Server) -> asyncio.BaseProtocol:
        """The protocol of a new connection, which has its time for a first head."""
        self._make_room(server.connections)
        handler = _Handler(server, loop=self._loop, **server._kwargs)
        self._waiting[handler] = self._loop.call_later(HEAD_TIMEOUT, self._expire, handler)
        if self._tls is None:
            return handler
        ready = self._loop.create_future()
        ready.add_done_callback(partial(self._shaken, handler))
        self._shaking[handler] = layer = TlsTransport(handler, self._tls, None, None, ready)
        return layer

    def _shaken(self, handler: RequestHandler, ready: asyncio.Future[None]) -> None:
        """The handshake has ended; where it has failed, so has the connection."""
        del self._shaking[handler]
        if ready.exception() is not None:
            self._forget(handler)

    def _make_room(self, handlers: list[RequestHandler]) -> None:
        """Close the oldest of these connections for a further one, those without a request under way first.

        Whoever opens many must not keep others from the probes, nor the data plane from its descriptors.
        """
        handlers.sort(key=self._responding.__contains__)
        waiting = [*self._shaking, *handlers]
        for each in waiting[: max(0, len(waiting) + 1 - self._most)]:
            self._expire(each)

    @web.middleware
    async def arrived(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection has sent a head; aiohttp's keep-alive limit holds from then on."""
        self._forget(request.protocol)
        self._responding.add(request.protocol)
        try:
            return _closing(request, await handler(request))
        except web.HTTPException as refused:
            _closing(request, refused)
            raise
        finally:
            self._responding.discard(request.protocol)

    def close(self) -> None:
        """Stop watching."""
        for handler in list(self._waiting):
            self._forget(handler)
        for handler in list(self._shaking):
            self._expire(handler)

    def _forget(self, handler: RequestHandler) -> None:
        timer = self._waiting.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, handler: RequestHandler) -> None:
        self._forget(handler)
        layer = self._shaking.get(handler)
        if layer is not None:
            # Its TCP may be connected only at the loop's next turn.
            self._loop.call_soon(layer.abort)
            return
        transport = handler.transport
        handler.force_close()
        if transport is not None and transport.get_write_buffer_size():
            # Whoever does not read what they asked for keeps a connection that is closing for as long as they like.
            transport.abort()


class Server:
    """A running application. `addresses` are those bound."""

    def __init__(self, runner: web.AppRunner, connections: _Connections, listener: Listener) -> None:
        self._runner = runner
        self._connections = connections
        self._listener = listener
        self.addresses = listener.addresses

    async def close(self) -> None:
        """Stop accepting, let responses under way end for a few seconds, close every connection."""
        self._listener.close()
        await self._runner.cleanup()
        self._connections.close()


async def serve(
    app: web.Application, address: Address, key: str, most: int = MOST, tls: ssl.SSLContext | None = None
) -> Server:
    """Serve the application at the address that `key` of the config gives, such as `listen.admin`; by TLS where given.

    `most` is how many connections there may be; one more closes the oldest. Raises network.listen.ListenError, whose
    message names the key.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_LOGGER,
        shutdown_timeout=GRACE,
        keepalive_timeout=KEEP_ALIVE,
        max_line_size=4096,
        max_field_size=4096,
        max_headers=64,
        auto_decompress=False,
    )
    connections = _Connections(most, tls)
    app.middlewares.insert(0, connections.arrived)
    await runner.setup()
    make = cast(web.Server, runner.server)
    try:
        listener = await listen(lambda: connections.open(make), address, key, backlog=max(most, _BACKLOG))
    except BaseException:
        await runner.cleanup()
        raise
    return Server(runner, connections, listener)
