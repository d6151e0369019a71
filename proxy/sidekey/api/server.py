"""Runs an aiohttp application on an address of the config, without aiohttp's own texts, logs and leniency."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import cast

from aiohttp import web, web_response
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from sidekey.api.errors import CODES, TYPE, ApiProblem
from sidekey.api.guard import Handler, is_whole
from sidekey.network.listen import Listener, listen
from sidekey.network.tls_identity import load_chain
from sidekey.network.tls_transport import TlsTransport
from sidekey.snapshot.admin import ServerCertificate
from sidekey.snapshot.snapshot import Address, Snapshot

HEAD_TIMEOUT = 10.0
"""Seconds from a connection to its first complete request head; aiohttp has no such limit."""

GRACE = 5.0
"""Seconds that responses under way get when the listener closes."""

KEEP_ALIVE = 75.0
"""Seconds that an idle connection stays; a scraper comes back within them."""

MAX_CONNECTIONS = 32
"""Connections of one listener, each of which takes a descriptor that the data plane may need."""

SHARE = 64
"""Connections of one peer, of those that a listener has: ten browsers, of six connections each."""

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


def _closing(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The response, after which the connection closes where the body was not read: it would be taken for a request."""
    if not is_whole(request) and not response.prepared:
        response.force_close()
    return response


class _Handler(RequestHandler):
    """A connection of `peer`. The response to a malformed request does not repeat its line, as aiohttp's would."""

    __slots__ = ("peer",)

    peer: bytes

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Build the response to a malformed request, or to a defect. The API promises problems for both."""
        del message
        code = "malformed" if status < 500 else "internal_error"
        problem = ApiProblem(code, CODES[code].title).shown().model_dump_json(exclude_unset=True)
        response = cast(web.Response, super().handle_error(request, status, exc, problem))
        response.text, response.content_type = problem, TYPE
        return response


class _Arrival(asyncio.Protocol):
    """Chooses the protocol of a new connection once its peer is known."""

    def __init__(self, admit: Callable[[asyncio.Transport], asyncio.BaseProtocol]) -> None:
        self._admit = admit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection over."""
        protocol = self._admit(cast(asyncio.Transport, transport))
        cast(asyncio.Transport, transport).set_protocol(protocol)
        protocol.connection_made(transport)


class _Connections:
    """Ends the connections that send no request head in time, and those that make room for further ones.

    With `tls` each begins with a handshake, in which it counts as well: aiohttp learns of it only afterwards. With
    `is_shared` all connections belong to one peer, such as a reverse proxy, which has no share.
    """

    def __init__(self, most: int, share: int, is_shared: Callable[[], bool], tls: ssl.SSLContext | None) -> None:
        self._most = most
        self._share = share
        self._is_shared = is_shared
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[RequestHandler, asyncio.TimerHandle] = {}
        self._shaking: dict[RequestHandler, TlsTransport] = {}
        self._responding: set[RequestHandler] = set()

    def admit(self, server: web.Server, transport: asyncio.Transport) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection, which has its time for a first head."""
        handler = _Handler(server, loop=self._loop, **server._kwargs)
        handler.peer = b"" if self._is_shared() else _peer(transport)
        self._make_room([*self._shaking, *server.connections], handler.peer)
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

    def _make_room(self, handlers: list[RequestHandler], peer: bytes) -> None:
        """Close some of these connections for a further one of `peer`: its own if it has its share, then by `most`.

        Those that close anyway go first, and those with a request under way last, each the oldest first. So nobody who
        opens many keeps others from the pages and the probes, nor the data plane from its descriptors.
        """
        # The peer itself comes first: if another has as many, it keeps them.
        peers: dict[bytes, list[RequestHandler]] = {peer: []}
        for handler in sorted(handlers, key=self._worth):
            peers.setdefault(cast(_Handler, handler).peer, []).append(handler)
        excess = len(handlers) + 1 - self._most
        while peer and len(peers[peer]) >= self._share:
            self._expire(peers[peer].pop(0))
            excess -= 1
        for _ in range(excess):
            self._expire(max(peers.values(), key=len).pop(0))

    def _worth(self, handler: RequestHandler) -> int:
        """Return 0 if a connection is not open yet, or not for long; 1 if it is idle, 2 with a request under way."""
        if handler.transport is None or handler.transport.is_closing():
            return 0
        return 2 if handler in self._responding else 1

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
            layer.abort()
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


def _peer(transport: asyncio.Transport) -> bytes:
    """Return an IPv4 address, or the half of an IPv6 address that a network has, for hosts choose the rest at will."""
    name = transport.get_extra_info("peername")
    # A unix socket has no name of the peer, or an empty one.
    return ip_address(name[0]).packed[:8] if isinstance(name, tuple) else b""


async def serve(
    app: web.Application,
    address: Address,
    key: str,
    most: int = MAX_CONNECTIONS,
    *,
    share: int = SHARE,
    is_shared: Callable[[], bool] = lambda: False,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Serve the application at the address that `key` of the config gives, such as `listen.admin`; by TLS where given.

    There may be `most` connections, and `share` of one peer, unless `is_shared` reports a proxy in front; one more
    closes the oldest that is idle. Raises network.listen.ListenError, whose message names the key.
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
    connections = _Connections(most, share, is_shared, tls)
    app.middlewares.insert(0, connections.arrived)
    await runner.setup()
    admit = partial(connections.admit, cast(web.Server, runner.server))
    try:
        listener = await listen(partial(_Arrival, admit), address, key, backlog=max(most, _BACKLOG))
    except BaseException:
        await runner.cleanup()
        raise
    return Server(runner, connections, listener)


class AdminTls:
    """The context of the listener, from a first certificate on. Raises OSError or ValueError where that is none."""

    def __init__(self, certificate: ServerCertificate) -> None:
        self._certificate = certificate
        self._current = _context(certificate)
        self.context = _context(certificate)
        self.context.sni_callback = self._present

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to present the certificate of another snapshot; the result does so from the next handshake on."""
        certificate = snapshot.admin.certificate or self._certificate
        same = (certificate.chain, certificate.key) == (self._certificate.chain, self._certificate.key)
        context = self._current if same else _context(certificate)

        def commit() -> None:
            self._certificate, self._current = certificate, context

        return commit

    def _present(self, handshake: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        handshake.context = self._current


def _context(certificate: ServerCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    # A line's end between the two, whatever the first one ends with.
    load_chain(context, b"\n".join((certificate.chain, certificate.key)))
    return context
