"""HTTP calls that Sidekey makes itself, for a token, a login or a certificate: aiohttp's client over the dialer.

aiohttp writes the request and reads the response. The dialer resolves the name, checks the address and opens the
socket. Each call has its own session with a single connection, and is sent once.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from yarl import URL

from sidekey.credentials.base import Call, CallError, Outcome, Pairs, Reply
from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.tls import client_certificate_refused, tls_problem
from sidekey.policy import framing
from sidekey.policy.urls import Origin, Target, parse_target
from sidekey.snapshot.egress import Egress

RESPONSE_SHARE = 0.1
"""Share of a call's timeout that is reserved for the response. With less time left, Sidekey sends no request."""

LAST_LOOK = 0.05
"""Seconds after the deadline in which Sidekey still reads bytes that arrived before it.

When a stopped process continues, its deadline has passed, and the unread response may hold the only valid refresh
token.
"""

MAX_HEAD_SIZE = 256 << 10
"""Bytes of a response outside its body: header fields, interim responses, chunk sizes and extensions, trailers."""

MAX_FIELD_SIZE = 64 << 10
"""Bytes of one header field or status line. Some platforms send policies and cookies above the usual 8 KiB."""

MAX_INTERIM_RESPONSES = 16
"""Maximum number of unread interim responses. A server that sends more could block the event loop."""

_OUTCOMES: dict[str, Outcome] = {"dns_timeout": "timeout", "connection_timeout": "timeout"}
"""Call outcomes by the `error` of a Problem; default: "unreachable"."""

_FIELD_TEXT = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""A name or value of a header field: no control characters except tab (RFC 9110 5.5)."""

_NOT_HTTP = "did not return a valid HTTP/1.1 response"
_LONG_FIELD = f"returned a header field of more than {MAX_FIELD_SIZE >> 10} KiB"
_CUT = "closed the connection in the middle of its response"
_NOT_GZIP = "returned a body that is not valid gzip"


class _ResponseError(Exception):
    """The server sent no usable response. `reason` continues the step's name and contains no byte of the response."""

    def __init__(self, reason: str, outcome: Outcome = "invalid") -> None:
        super().__init__(reason, outcome)
        self.reason = reason
        self.outcome = outcome


class Fetcher:
    """Makes at most `max_calls` HTTP calls at a time, and at most half as many to one endpoint.

    A call over a limit waits in order of arrival. Each call to an endpoint that hangs holds a file descriptor until its
    timeout. Without a limit for each endpoint, one endpoint would soon hold all descriptors.
    """

    def __init__(self, dialer: Dialer, max_calls: int) -> None:
        self._dialer = dialer
        self.set_limit(max_calls)

    def set_limit(self, max_calls: int) -> None:
        """Replace `max_calls`. Call this before the first `fetch`."""
        self._max_calls, self._max_calls_per_origin = max_calls, (max_calls + 1) // 2
        self._all_slots = asyncio.Semaphore(max_calls)
        # The semaphore of an origin lives while a call uses it.
        self._origin_slots: WeakValueDictionary[Origin, asyncio.Semaphore] = WeakValueDictionary()

    async def fetch(
        self,
        call: Call,
        egress: Egress,
        *,
        timeout: float,  # noqa: ASYNC109 - one budget, which the lookup and the rest share
        max_size: int,
        identity: ClientIdentity | None = None,
    ) -> Reply:
        """Send the request of a call and return the response, whatever its status.

        For an http URL, Sidekey connects to a loopback address only. `timeout` is in seconds and covers the whole call.
        `max_size` limits the response's body in bytes, encoded and decoded. `identity` is the client certificate for a
        server that requests one.

        Raises CallError (timeout, unreachable or invalid). Its reason names the step, and no address, URL or byte of
        the response; `unspent` is set if no byte of the request was sent.
        """
        target = parse_target(call.url)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        send_by = deadline - timeout * RESPONSE_SHARE

        async def connect() -> _Protocol:
            try:
                protocol = await self._dialer.connect(
                    partial(_Protocol, loop, max_size),
                    target.origin,
                    egress,
                    # Whatever `localhost` resolves to, the secret must not leave this machine in the clear.
                    loopback_only=target.origin.scheme != "https",
                    timeout=send_by - loop.time(),
                    identity=identity,
                )
            except ProblemError as raised:
                raise _call_error(call.step, raised.problem, unspent=True) from None
            if loop.time() > send_by:
                # The process was stopped meanwhile. The request may use up a token, and no time is left for the
                # response.
                protocol.close()
                raise CallError("timeout", f"{call.step}: the connection to it took too long", unspent=True)
            return protocol

        try:
            async with self._slots(call.step, target.origin, send_by), _until(deadline):
                return await _send(call, target, max_size, _SingleConnector(connect), identity)
        except TimeoutError:
            raise CallError("timeout", f"{call.step} did not respond in time") from None
        except _ResponseError as error:
            raise CallError(error.outcome, f"{call.step} {error.reason}") from None
        except ProblemError as raised:
            raise _call_error(call.step, raised.problem) from None

    @asynccontextmanager
    async def _slots(self, step: str, origin: Origin, deadline: float) -> AsyncIterator[None]:
        """Wait for a slot of `origin` and one of all calls, and hold both. Raises CallError at the deadline."""
        origin_slots = self._origin_slots.setdefault(origin, asyncio.Semaphore(self._max_calls_per_origin))
        limits = (
            (origin_slots, f"limit of {self._max_calls_per_origin} calls to it at a time reached"),
            (self._all_slots, f"limit of {self._max_calls} calls at a time reached, which NOFILE allows"),
        )
        acquired: list[asyncio.Semaphore] = []
        try:
            for slots, reason in limits:
                try:
                    async with asyncio.timeout_at(deadline):
                        await slots.acquire()
                except TimeoutError:
                    raise CallError("timeout", f"{step} skipped: {reason}", unspent=True) from None
                acquired.append(slots)
            yield
        finally:
            for slots in acquired:
                slots.release()


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Raise TimeoutError soon after the deadline, once the loop has read what arrived before it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        # A loop may run timers before it polls sockets: LAST_LOOK later it has done both.
        timer = loop.call_at(deadline, lambda: limit.reschedule(loop.time() + LAST_LOOK))
        try:
            yield
        finally:
            timer.cancel()


class _Protocol(ResponseHandler):
    """Reads one response of limited size, and records how the connection ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_size: int) -> None:
        super().__init__(loop)
        self.response_started = self.closed_in_order = False
        self.limit_error = ""
        self.parse_error: BaseException | None = None
        self.error: BaseException | None = None
        self._body: aiohttp.StreamReader = aiohttp.EMPTY_PAYLOAD
        self._limit = self._remaining = max_size + MAX_HEAD_SIZE

    def data_received(self, data: bytes) -> None:
        """Parse the received bytes. Abort when the server exceeds a limit."""
        self.response_started = True
        self._remaining -= len(data)
        super().data_received(data)
        if self._remaining < 0:
            self.limit_error = f"returned more than {self._limit >> 10} KiB with its header fields"
        elif len(self) > MAX_INTERIM_RESPONSES:
            self.limit_error = "returned too many interim responses"
        if self.limit_error and self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close in order, or abort if the server has not read the whole request: closing would wait for it."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.transport.abort()
        super().close()

    def eof_received(self) -> None:
        """Record close_notify. TlsTransport never calls this for a bare end of TCP, which can be forged."""
        self.closed_in_order = True
        super().eof_received()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Remember the body's reader for `connection_lost`. aiohttp's parser passes the message and its body."""
        self._body = data[1]
        super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Record the errors, which aiohttp replaces with its own, and end the body."""
        self.parse_error, self.error = self.exception(), exc
        super().connection_lost(exc)
        if not self._body.is_eof():
            # aiohttp lets the reader wait forever if the rest of the body was malformed.
            self._body.set_exception(aiohttp.ClientPayloadError())


class _SingleConnector(aiohttp.BaseConnector):
    """Connects once, because aiohttp would resend an idempotent request if its connection ended, even a new one."""

    def __init__(self, connect: Callable[[], Awaitable[_Protocol]]) -> None:
        super().__init__(force_close=True)
        self._connect = connect
        self.protocol: _Protocol | None = None

    async def _create_connection(self, *_: Any, **__: Any) -> _Protocol:
        if self.protocol is not None:
            raise aiohttp.ServerDisconnectedError
        self.protocol = await self._connect()
        return self.protocol


async def _send(
    call: Call, target: Target, max_size: int, connector: _SingleConnector, identity: ClientIdentity | None
) -> Reply:
    """Send the request and read its response. Raises CallError, _ResponseError or ProblemError."""
    origin, headers = target.origin, _build_request_headers(call, target)
    # Path and query go in as the path: yarl would drop the question mark of an empty query.
    url = URL.build(scheme=origin.scheme, authority=origin.authority, path=target.request_target, encoded=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Content-Type"),
        timeout=aiohttp.ClientTimeout(),
        max_line_size=MAX_FIELD_SIZE,
        max_field_size=MAX_FIELD_SIZE,
    ) as session:
        try:
            response = await session.request(
                call.method, url, data=call.body or None, headers=headers, allow_redirects=False
            )
            try:
                return await _read(response, max_size, cast(_Protocol, connector.protocol))
            finally:
                response.close()
        except aiohttp.ClientError as error:
            raise _replace_error(error, cast(_Protocol, connector.protocol), identity) from None


def _replace_error(error: aiohttp.ClientError, protocol: _Protocol, identity: ClientIdentity | None) -> Exception:
    """Replace an error of aiohttp, because its text may contain URLs and bytes of the response."""
    if protocol.limit_error:
        return _ResponseError(protocol.limit_error)
    malformed = error.__cause__ if isinstance(error, aiohttp.ClientResponseError) else protocol.parse_error
    if isinstance(malformed, HttpProcessingError):
        return _ResponseError(_LONG_FIELD if isinstance(malformed.__cause__, LineTooLong) else _NOT_HTTP)
    if protocol.response_started:
        return _ResponseError(_CUT)
    if isinstance(protocol.error, ssl.SSLError):
        # In TLS 1.3 a server refuses a client certificate after the handshake (RFC 8446 4.4.2.4).
        return ProblemError(tls_problem(protocol.error))
    if identity is not None:
        return ProblemError(client_certificate_refused())
    return _ResponseError("closed the connection before it responded", "unreachable")


async def _read(response: aiohttp.ClientResponse, max_size: int, protocol: _Protocol) -> Reply:
    """Validate the head of a response and read its body. Raises _ResponseError."""
    if response.version not in (aiohttp.HttpVersion10, aiohttp.HttpVersion11) or not 200 <= response.status < 600:
        raise _ResponseError(_NOT_HTTP)
    headers = _join_response_headers(response.raw_headers)
    length = _body_length(response.status, headers)
    coding = headers.get("content-encoding", "identity").lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise _ResponseError("returned a content coding other than gzip, which was not requested")
    if length > max_size:
        raise _too_large(max_size)
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > max_size:
            raise _too_large(max_size)
    if length == framing.UNTIL_CLOSE and not protocol.closed_in_order:
        raise _ResponseError(_CUT)
    # An empty body, as with 204, is not encoded, whatever Content-Encoding says.
    is_gzip = coding != "identity" and body
    return Reply(response.status, headers, _gunzip(body, max_size) if is_gzip else bytes(body))


def _join_response_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Join repeated header fields under lower-case names. Raises _ResponseError for a control character in a value."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if not _FIELD_TEXT.fullmatch(value):
            raise _ResponseError(_NOT_HTTP)
        # A repeated field is one list (RFC 9110 5.3).
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _body_length(status: int, headers: Mapping[str, str]) -> int:
    """Return the result of `framing.response_length`. Raises _ResponseError if the length is ambiguous."""
    length, coding = (headers.get(name) for name in ("content-length", "transfer-encoding"))
    try:
        return framing.response_length(
            status,
            None if length is None else framing.content_length(length.encode("latin-1")),
            None if coding is None else coding.encode("latin-1"),
            head=False,
        )
    except framing.BadFraming:
        raise _ResponseError("returned a response whose length is ambiguous") from None


def _gunzip(body: bytearray, max_size: int) -> bytes:
    """Decode a single gzip member (RFC 1952). Raises _ResponseError, also for more than `max_size` bytes."""
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        decoded = decoder.decompress(body, max_size + 1)
    except zlib.error:
        raise _ResponseError(_NOT_GZIP) from None
    if len(decoded) > max_size:
        raise _too_large(max_size)
    if not decoder.eof or decoder.unused_data:
        raise _ResponseError(_NOT_GZIP)
    return decoded


def _too_large(max_size: int) -> _ResponseError:
    return _ResponseError(f"returned more than {max_size >> 10} KiB")


def _build_request_headers(call: Call, target: Target) -> Pairs:
    """Build the request's headers. Raises ValueError for a control character, which could start another line."""
    names = {name.lower() for name, _ in call.headers}
    defaults = (("Accept-Encoding", "identity"), ("User-Agent", "sidekey"))
    fields = [("Host", target.origin.authority), *call.headers]
    fields += [pair for pair in defaults if pair[0].lower() not in names]
    if not all(_FIELD_TEXT.fullmatch(text) for pair in fields for text in pair):
        raise ValueError("a call for a credential must not hold control characters in its head")
    # aiohttp encodes text as UTF-8, but each of these characters is one byte.
    return tuple((name, value.encode("latin-1").decode()) for name, value in fields)


def _call_error(step: str, problem: Problem, *, unspent: bool = False) -> CallError:
    """Convert a connection's problem to a CallError: "token endpoint: its certificate is refused: ..."."""
    return CallError(
        _OUTCOMES.get(problem.error, "unreachable"),
        f"{step}: {problem.detail_about('it', 'its')}",
        needs_config_change=problem.code == "destination_denied" or problem.error == "proxy_configuration_error",
        unspent=unspent,
    )
