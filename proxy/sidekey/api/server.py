"""Serve an aiohttp application on a listener of the config, over TLS if it has a certificate.

Sidekey replaces aiohttp's own error texts and logs, and limits connections, heads and waiting clients.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import cast

from aiohttp import web, web_response
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import BadStatusLine, InvalidURLError
from aiohttp.web_protocol import RequestHandler

from sidekey.api.errors import CODES, TYPE, ApiProblem
from sidekey.api.guard import Handler, is_complete
from sidekey.network.listen import Listener, listen
from sidekey.network.tls_server import listener_context
from sidekey.network.tls_transport import TlsTransport
from sidekey.snapshot.admin import ServerCertificate
from sidekey.snapshot.snapshot import Address, Snapshot

HEAD_TIMEOUT = 10.0
"""Seconds from a connection to its first complete request head; aiohttp has no such limit."""

GRACE = 5.0
"""Seconds that responses in progress have to end when the listener closes."""

KEEP_ALIVE = 75.0
"""Seconds until an idle connection closes: longer than the interval of a scraper."""

MAX_CONNECTIONS = 32
"""Default maximum of connections. Each takes a file descriptor that the data plane may need."""

MAX_PER_PEER = 64
"""Default maximum of connections from one peer: ten browsers with six each. It matters for larger listeners only."""

_BACKLOG = 16
"""Minimum length of the accept queue. A client that the kernel drops retries after a second, too late for a probe."""

# aiohttp names itself and Python in `Server`, also in its responses to malformed requests, which no signal or
# middleware of an application sees.
web_response.SERVER_SOFTWARE = "sidekey"  # type: ignore[attr-defined]


def _is_defect(record: logging.LogRecord) -> bool:
    """Return False for a malformed request: its sender gets a response, and must not fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER = logging.getLogger("sidekey.admin")
_LOGGER.addFilter(_is_defect)


_REPEATED = re.compile(r"Duplicate '([A-Za-z-]{1,40})' header")
_PARSE_ERRORS = (
    ("too many", "the head has too many header fields"),
    ("got more than", "the request line or a header field is too long"),
    ("https traffic", "TLS arrived at a listener without TLS: use http://, or set `tls` of the listener"),
    ("'host'", "the header Host is missing"),
    ("content-length", "Content-Length must be a number, and must be neither repeated nor beside Transfer-Encoding"),
    ("transfer-encoding", "Transfer-Encoding must be chunked alone"),
    ("chunk", "a chunk of the body is not valid"),
    ("header", "a header field must be `Name: value`, without control characters, and end with CRLF"),
)
"""Details by a part of the parser's message in lower case: the first that matches counts."""


def _parse_error_detail(error: BaseException | None) -> str:
    """Return why a request cannot be parsed. The parser's own message may repeat the request."""
    if isinstance(error, BadStatusLine | InvalidURLError) and "HTTPS traffic" not in str(error):
        return "the request line must be `METHOD TARGET HTTP/1.1`, with a valid target"
    # What follows the colon repeats the request.
    reason = error.message.partition(":")[0] if isinstance(error, HttpProcessingError) else ""
    if repeated := _REPEATED.match(reason):
        return f"the header {repeated[1]} must not be repeated"
    details = (detail for part, detail in _PARSE_ERRORS if part in reason.lower())
    return next(details, "the request is not valid HTTP/1.1 (RFC 9112)")


def _close_unless_complete(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close the connection after the response if body bytes are still to come: they would be parsed as a request."""
    if not is_complete(request) and not response.prepared:
        response.force_close()
    return response


class _Handler(RequestHandler):
    """A connection from `peer` (see `_peer`). Unlike aiohttp, it does not repeat a malformed request line."""

    __slots__ = ("peer",)

    peer: bytes

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Respond with a problem (RFC 9457) to a malformed request or after a defect."""
        del message
        code = "malformed" if status < 500 else "internal_error"
        detail = CODES[code].title if status >= 500 else _parse_error_detail(exc)
        problem = ApiProblem(code, detail).to_body().model_dump_json(exclude_unset=True)
        response = cast(web.Response, super().handle_error(request, status, exc, problem))
        response.text, response.content_type = problem, TYPE
        return response


class _NewConnection(asyncio.Protocol):
    """Chooses the protocol of a connection in `connection_made`: only then is the peer's address known."""

    def __init__(self, admit: Callable[[asyncio.Transport], asyncio.BaseProtocol]) -> None:
        self._admit = admit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Replace this protocol by the one that `admit` returns."""
        protocol = self._admit(cast(asyncio.Transport, transport))
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)


class _Connections:
    """Limits the number of connections, and the time of each to its first request head.

    aiohttp learns of a TLS connection only after its handshake: until then, `_handshakes` has it. `is_behind_proxy`
    returns True if a reverse proxy opens all connections: then `max_per_peer` does not apply.
    """

    def __init__(
        self, max_connections: int, max_per_peer: int, is_behind_proxy: Callable[[], bool], tls: ssl.SSLContext | None
    ) -> None:
        self._max_connections = max_connections
        self._max_per_peer = max_per_peer
        self._is_behind_proxy = is_behind_proxy
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._head_timers: dict[RequestHandler, asyncio.TimerHandle] = {}
        self._handshakes: dict[RequestHandler, TlsTransport] = {}
        self._responding: set[RequestHandler] = set()

    def admit(self, server: web.Server, transport: asyncio.Transport) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection, and start the timeout of its first head."""
        handler = _Handler(server, loop=self._loop, **server._kwargs)
        handler.peer = b"" if self._is_behind_proxy() else _peer(transport)
        self._make_room([*self._handshakes, *server.connections], handler.peer)
        self._head_timers[handler] = self._loop.call_later(HEAD_TIMEOUT, self._drop, handler)
        if self._tls is None:
            return handler
        ready = self._loop.create_future()
        ready.add_done_callback(partial(self._end_handshake, handler))
        self._handshakes[handler] = layer = TlsTransport(handler, self._tls, None, None, ready)
        return layer

    def _end_handshake(self, handler: RequestHandler, ready: asyncio.Future[None]) -> None:
        del self._handshakes[handler]
        if ready.exception() is not None:
            self._stop_head_timer(handler)

    def _make_room(self, handlers: list[RequestHandler], peer: bytes) -> None:
        """Close connections so that one more of `peer` respects both limits.

        A peer at its limit loses its own connections. At the limit of the listener, the peer with the most
        connections loses some. Closing connections go first and active ones last, in each group the oldest first.
        So a peer with many connections cannot block the pages and probes of other peers.
        """
        # `max` prefers the new peer, which comes first, over another peer with as many connections.
        peers: dict[bytes, list[RequestHandler]] = {peer: []}
        for handler in sorted(handlers, key=self._activity):
            peers.setdefault(cast(_Handler, handler).peer, []).append(handler)
        excess = len(handlers) + 1 - self._max_connections
        while peer and len(peers[peer]) >= self._max_per_peer:
            self._drop(peers[peer].pop(0))
            excess -= 1
        for _ in range(excess):
            self._drop(max(peers.values(), key=len).pop(0))

    def _activity(self, handler: RequestHandler) -> int:
        """Return 0 if a connection is in its handshake or closing, 1 if it is idle, 2 if it serves a request."""
        if handler.transport is None or handler.transport.is_closing():
            return 0
        return 2 if handler in self._responding else 1

    @web.middleware
    async def track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Stop the timeout of the first head, and mark the connection as active while `handler` runs."""
        self._stop_head_timer(request.protocol)
        self._responding.add(request.protocol)
        try:
            return _close_unless_complete(request, await handler(request))
        except web.HTTPException as response:
            _close_unless_complete(request, response)
            raise
        finally:
            self._responding.discard(request.protocol)

    def close(self) -> None:
        """Stop all timers and abort all handshakes."""
        for handler in list(self._head_timers):
            self._stop_head_timer(handler)
        for handler in list(self._handshakes):
            self._drop(handler)

    def _stop_head_timer(self, handler: RequestHandler) -> None:
        timer = self._head_timers.pop(handler, None)
        if timer is not None:
            timer.cancel()

    def _drop(self, handler: RequestHandler) -> None:
        self._stop_head_timer(handler)
        layer = self._handshakes.get(handler)
        if layer is not None:
            layer.abort()
            return
        transport = handler.transport
        handler.force_close()
        if transport is not None and transport.get_write_buffer_size():
            # A client that does not read would keep the closing connection open for as long as it likes.
            transport.abort()


class Server:
    """An application that listens on `addresses`."""

    def __init__(self, runner: web.AppRunner, connections: _Connections, listener: Listener) -> None:
        self._runner = runner
        self._connections = connections
        self._listener = listener
        self.addresses = listener.addresses

    async def close(self) -> None:
        """Stop accepting, wait up to `GRACE` seconds for responses in progress, then close every connection."""
        self._listener.close()
        await self._runner.cleanup()
        self._connections.close()


def _peer(transport: asyncio.Transport) -> bytes:
    """Return the IPv4 address of a peer, its IPv6 /64 (hosts choose the other half), or b"" for a unix socket."""
    name = transport.get_extra_info("peername")
    return ip_address(name[0]).packed[:8] if isinstance(name, tuple) else b""


async def serve(
    app: web.Application,
    address: Address,
    key: str,
    max_connections: int = MAX_CONNECTIONS,
    *,
    max_per_peer: int = MAX_PER_PEER,
    is_behind_proxy: Callable[[], bool] = lambda: False,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Serve the application at the address that the config sets in `key`, such as `listen.admin`.

    A connection beyond a limit closes another one, idle ones first. Behind a reverse proxy (`is_behind_proxy`),
    `max_per_peer` does not apply. Raises ListenError, whose message names the key.
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
    connections = _Connections(max_connections, max_per_peer, is_behind_proxy, tls)
    app.middlewares.insert(0, connections.track)
    await runner.setup()
    admit = partial(connections.admit, cast(web.Server, runner.server))
    try:
        listener = await listen(partial(_NewConnection, admit), address, key, backlog=max(max_connections, _BACKLOG))
    except BaseException:
        await runner.cleanup()
        raise
    return Server(runner, connections, listener)


class AdminTls:
    """TLS of a listener that replaces its certificate while it listens.

    The listener keeps `context` for good. `_present` switches each handshake from it to the latest context, `_current`.
    Raises OSError or ValueError if the first certificate cannot be loaded.
    """

    def __init__(self, certificate: ServerCertificate) -> None:
        self._certificate = certificate
        self._current = listener_context(certificate)
        self.context = listener_context(certificate)
        self.context.sni_callback = self._present

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Load the certificate of the next snapshot, or keep the current one if it has none.

        Call the returned function to use it for new handshakes. Raises OSError or ValueError.
        """
        certificate = snapshot.admin.certificate or self._certificate
        unchanged = (certificate.chain, certificate.key) == (self._certificate.chain, self._certificate.key)
        context = self._current if unchanged else listener_context(certificate)

        def commit() -> None:
            self._certificate, self._current = certificate, context

        return commit

    def _present(self, handshake: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        handshake.context = self._current
