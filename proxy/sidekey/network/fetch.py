"""Sidekey's own calls, for a token, a login or a certificate: aiohttp's client over Sidekey's dialer.

aiohttp writes the request and reads the response. It resolves no name and opens no socket: the dialer does, and judges
the address that it dials. Each call has its own session and its only connection, and is sent once.
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
from sidekey.network.tls import certificate_refused, tls_problem
from sidekey.policy import framing
from sidekey.policy.addresses import Address, AllowPrivate
from sidekey.policy.urls import Origin, Target, parse_target
from sidekey.snapshot.snapshot import Trust

RESERVED = 0.1
"""Part of a call's time that is reserved for the response: with less left, the request is not sent."""

LAST_LOOK = 0.05
"""Seconds after the deadline in which Sidekey still reads what has arrived by then.

A process that was stopped finds its deadline passed and the response unread, which may hold the only valid refresh
token.
"""

MAX_HEAD_SIZE = 256 << 10
"""Bytes of a response beside its body: header fields, interim responses, sizes and extensions of chunks, trailers."""

MAX_FIELD_SIZE = 64 << 10
"""Bytes of one header field or status line: some platforms send policies and cookies of more than the usual 8 KiB."""

MAX_INTERIM_RESPONSES = 16
"""Interim responses that may wait to be skipped: at full speed they would keep the event loop from everything else."""

_OUTCOMES: dict[str, Outcome] = {"dns_timeout": "timeout", "connection_timeout": "timeout"}
"""Outcomes of a Problem's errors that are not "unreachable"."""

_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""Text without controls other than tab (RFC 9110 5.5)."""

_NOT_HTTP = "did not return a valid HTTP/1.1 response"
_LONG_FIELD = f"returned a header field of more than {MAX_FIELD_SIZE >> 10} KiB"
_CUT = "closed the connection in the middle of its response"
_NOT_GZIP = "returned a body that is not valid gzip"


class _ResponseFault(Exception):
    """There is no usable response. `reason` continues a sentence about the server and repeats none of its bytes."""

    def __init__(self, reason: str, outcome: Outcome = "invalid") -> None:
        super().__init__(reason, outcome)
        self.reason = reason
        self.outcome = outcome


class Fetcher:
    """Makes calls under the network rules of a dialer: at most `most` at a time, and half of them to one endpoint.

    An endpoint that hangs holds a file descriptor for as long as each call may take. Without its own limit it would
    soon have all of them. Other calls wait for their turn in the order in which they came.
    """

    def __init__(self, dialer: Dialer, most: int) -> None:
        self._dialer = dialer
        self.limit(most)

    def limit(self, most: int) -> None:
        """Set the limit anew, before the first call."""
        self._most, self._most_each = most, (most + 1) // 2
        self._all = asyncio.Semaphore(most)
        # The semaphores of endpoints without a call are freed.
        self._each: WeakValueDictionary[Origin, asyncio.Semaphore] = WeakValueDictionary()

    async def fetch(
        self,
        call: Call,
        *,
        trust: Trust,
        allow_private: AllowPrivate,
        source_address: Address | None,
        timeout: float,  # noqa: ASYNC109 - one budget, which the lookup and the rest share
        largest: int,
        identity: ClientIdentity | None = None,
    ) -> Reply:
        """Make the call: to https, or to http at a loopback address only.

        `timeout` bounds the whole call in seconds, `largest` the response's body in bytes, also once it is decoded.
        `allow_private` and `source_address` are the integration's, as for `Dialer.connect`. `identity` is the client
        certificate for a server that requests one.
        Raises CallFault (timeout, unreachable or invalid) with a reason that names the call's step and no address,
        URL or byte of the response; `unspent` if nothing of the request was sent. A response of any status is returned.
        """
        target = parse_target(call.url)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        send_by = deadline - timeout * RESERVED

        async def connect() -> _Protocol:
            try:
                protocol = await self._dialer.connect(
                    partial(_Protocol, loop, largest),
                    target.origin,
                    # Whatever `localhost` resolves to, the secret must not leave this machine in the clear.
                    loopback_only=target.origin.scheme != "https",
                    trust=trust,
                    allow_private=allow_private,
                    source_address=source_address,
                    timeout=send_by - loop.time(),
                    identity=identity,
                )
            except ProblemError as raised:
                raise _of_step(call.step, raised.problem, unspent=True) from None
            if loop.time() > send_by:
                # The process was stopped meanwhile. Nobody might be there for the response, which may spend a token.
                protocol.close()
                raise CallError("timeout", f"{call.step}: the connection to it took too long", unspent=True)
            return protocol

        try:
            async with self._turn(call.step, target.origin, send_by), _until(deadline):
                return await _send(call, target, largest, _OnlyConnection(connect), identity)
        except TimeoutError:
            raise CallError("timeout", f"{call.step} did not respond in time") from None
        except _ResponseFault as fault:
            raise CallError(fault.outcome, f"{call.step} {fault.reason}") from None
        except ProblemError as raised:
            raise _of_step(call.step, raised.problem) from None

    @asynccontextmanager
    async def _turn(self, step: str, origin: Origin, deadline: float) -> AsyncIterator[None]:
        """Wait for a turn to call `origin`. Raises CallFault at the deadline."""
        each = self._each.setdefault(origin, asyncio.Semaphore(self._most_each))
        limits = (
            (each, f"limit of {self._most_each} calls to it at a time reached"),
            (self._all, f"limit of {self._most} calls at a time reached, which NOFILE allows"),
        )
        taken: list[asyncio.Semaphore] = []
        try:
            for slots, reason in limits:
                try:
                    async with asyncio.timeout_at(deadline):
                        await slots.acquire()
                except TimeoutError:
                    raise CallError("timeout", f"{step} skipped: {reason}", unspent=True) from None
                taken.append(slots)
            yield
        finally:
            for slots in taken:
                slots.release()


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Raise TimeoutError soon after the deadline, once the loop has read what arrived before it."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        # A loop may look at its timers before its sockets: between these two it has looked at both.
        timer = loop.call_at(deadline, lambda: limit.reschedule(loop.time() + LAST_LOOK))
        try:
            yield
        finally:
            timer.cancel()


class _Protocol(ResponseHandler):
    """Reads one response, bounds what it takes in, and notes how the connection ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop, largest: int) -> None:
        super().__init__(loop)
        self.begun = self.closed_in_order = False
        self.excess = ""
        self.parse_error: BaseException | None = None
        self.error: BaseException | None = None
        self._body: aiohttp.StreamReader = aiohttp.EMPTY_PAYLOAD
        self._most = self._left = largest + MAX_HEAD_SIZE

    def data_received(self, data: bytes) -> None:
        """Parse what was received, and leave a server that does not stop."""
        self.begun = True
        self._left -= len(data)
        super().data_received(data)
        if self._left < 0:
            self.excess = f"returned more than {self._most >> 10} KiB with its header fields"
        elif len(self) > MAX_INTERIM_RESPONSES:
            self.excess = "returned too many interim responses"
        if self.excess and self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Close in order, or at once if that would wait for a server that does not read the request."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.transport.abort()
        super().close()

    def eof_received(self) -> None:
        """Note close_notify. Over TLS a bare end of TCP, which anyone on the path can forge, is not reported here."""
        self.closed_in_order = True
        super().eof_received()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Keep the body of the response, the second of the two."""
        self._body = data[1]
        super().feed_data(data, size)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Keep the errors, which aiohttp replaces by its own, and end the body."""
        self.parse_error, self.error = self.exception(), exc
        super().connection_lost(exc)
        if not self._body.is_eof():
            # aiohttp lets the reader wait forever if the rest of the body was malformed.
            self._body.set_exception(aiohttp.ClientPayloadError())


class _OnlyConnection(aiohttp.BaseConnector):
    """Connects once: aiohttp sends an idempotent request again if its connection ends, even a new one."""

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
    call: Call, target: Target, largest: int, connector: _OnlyConnection, identity: ClientIdentity | None
) -> Reply:
    """Send the request and read its response. Raises CallFault, _ResponseFault or ProblemError."""
    origin, headers = target.origin, _headers(call, target)
    # All of it as the path: yarl would drop a question mark with nothing behind it.
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
                return await _read(response, largest, cast(_Protocol, connector.protocol))
            finally:
                response.close()
        except aiohttp.ClientError as error:
            raise _fault(error, cast(_Protocol, connector.protocol), identity) from None


def _fault(error: aiohttp.ClientError, protocol: _Protocol, identity: ClientIdentity | None) -> Exception:
    """Return what happened after the connection was made. aiohttp's texts hold URLs and bytes of the response."""
    if protocol.excess:
        return _ResponseFault(protocol.excess)
    malformed = error.__cause__ if isinstance(error, aiohttp.ClientResponseError) else protocol.parse_error
    if isinstance(malformed, HttpProcessingError):
        return _ResponseFault(_LONG_FIELD if isinstance(malformed.__cause__, LineTooLong) else _NOT_HTTP)
    if protocol.begun:
        return _ResponseFault(_CUT)
    if isinstance(protocol.error, ssl.SSLError):
        # In TLS 1.3 a server refuses a client certificate after the handshake (RFC 8446 4.4.2.4).
        return ProblemError(tls_problem(protocol.error))
    if identity is not None:
        return ProblemError(certificate_refused())
    return _ResponseFault("closed the connection before it responded", "unreachable")


async def _read(response: aiohttp.ClientResponse, largest: int, protocol: _Protocol) -> Reply:
    """Read the body of a response that can be used. Raises _ResponseFault."""
    if response.version not in (aiohttp.HttpVersion10, aiohttp.HttpVersion11) or not 200 <= response.status < 600:
        raise _ResponseFault(_NOT_HTTP)
    headers = _fields(response.raw_headers)
    length = _length(response.status, headers)
    coding = headers.get("content-encoding", "identity").lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise _ResponseFault("returned a content coding other than gzip, which was not requested")
    if length > largest:
        raise _too_large(largest)
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > largest:
            raise _too_large(largest)
    if length == framing.UNTIL_CLOSE and not protocol.closed_in_order:
        raise _ResponseFault(_CUT)
    # A body of no bytes, as with 204, is not coded, whatever the field says.
    coded = coding != "identity" and body
    return Reply(response.status, headers, _gunzip(body, largest) if coded else bytes(body))


def _fields(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the header fields by their names in lower case. Raises _ResponseFault for control characters."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if not _LINE.fullmatch(value):
            raise _ResponseFault(_NOT_HTTP)
        # A field that is repeated is one list (RFC 9110 5.3).
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


def _length(status: int, headers: Mapping[str, str]) -> int:
    """Return the length of the body as `framing.response_length` does. Raises _ResponseFault if it is ambiguous."""
    length, coding = (headers.get(name) for name in ("content-length", "transfer-encoding"))
    try:
        return framing.response_length(
            status,
            None if length is None else framing.content_length(length.encode("latin-1")),
            None if coding is None else coding.encode("latin-1"),
            head=False,
        )
    except framing.BadFraming:
        raise _ResponseFault("returned a response whose length is ambiguous") from None


def _gunzip(body: bytearray, largest: int) -> bytes:
    """Decode one member of gzip (RFC 1952), to at most `largest` bytes and one. Raises _ResponseFault."""
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        decoded = decoder.decompress(body, largest + 1)
    except zlib.error:
        raise _ResponseFault(_NOT_GZIP) from None
    if len(decoded) > largest:
        raise _too_large(largest)
    if not decoder.eof or decoder.unused_data:
        raise _ResponseFault(_NOT_GZIP)
    return decoded


def _too_large(largest: int) -> _ResponseFault:
    return _ResponseFault(f"returned more than {largest >> 10} KiB")


def _headers(call: Call, target: Target) -> Pairs:
    """Return the headers as they are sent. Raises ValueError for one that would break out of its line."""
    given = {name.lower() for name, _ in call.headers}
    ours = (("Accept-Encoding", "identity"), ("User-Agent", "sidekey"))
    fields = [("Host", target.origin.authority), *call.headers]
    fields += [pair for pair in ours if pair[0].lower() not in given]
    if not all(_LINE.fullmatch(text) for pair in fields for text in pair):
        raise ValueError("a call for a credential must not hold control characters in its head")
    # aiohttp writes text as UTF-8, and these characters stand for bytes.
    return tuple((name, value.encode("latin-1").decode()) for name, value in fields)


def _of_step(step: str, problem: Problem, *, unspent: bool = False) -> CallError:
    """Describe a problem of the upstream as the step's: "token endpoint: its certificate is refused: ..."."""
    detail = problem.detail
    for peer in ("the upstream", "the target"):
        detail = detail.replace(f"{peer}'s", "its").replace(peer, "it")
    return CallError(
        _OUTCOMES.get(problem.error, "unreachable"),
        f"{step}: {detail}",
        settings=problem.code == "destination_denied" or problem.error == "proxy_configuration_error",
        unspent=unspent,
    )
