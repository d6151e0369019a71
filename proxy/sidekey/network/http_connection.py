"""One HTTP/1.1 connection for calls of Sidekey's own: sends a request whole, reads its response whole.

The parser is the data plane's (llhttp, strict), and so are the rules of framing (`core.framing`): what is ambiguous is
an error. Nothing is sent twice, redirects are not followed, no cookie is kept. No content coding is asked for; gzip,
which some servers send all the same, is decoded.
"""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from typing import NoReturn, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidekey.core import framing
from sidekey.credentials.base import Outcome, Reply
from sidekey.errors import ProblemError
from sidekey.network.gunzip import CODINGS, Gunzip, TooLongError
from sidekey.network.tls import tls_problem

LARGEST_HEAD = 256 << 10
"""Bytes of a response's head and its interim ones, and of chunk extensions or trailers in a row."""

LAST_LOOK = 0.05
"""Seconds after the deadline for which what has arrived by then is read."""

LARGEST_FIELD = 64 << 10
"""Bytes of one header field: platforms send policies and cookies of more than the usual 8 KiB."""

_NOT_HTTP = "did not return an HTTP/1.1 response"
_AMBIGUOUS = "returned a response whose length is ambiguous"
_NOT_GZIP = "returned a body that is not valid gzip"


class ResponseError(Exception):
    """There is no usable response. `reason` continues a sentence about the server, in words of ours: "did not ..."."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(outcome, reason)
        self.outcome: Outcome = outcome
        self.reason = reason


class ClosedBeforeResponse(ResponseError):
    """The server closed the connection before the first byte of a response; it may have acted on the request."""

    def __init__(self) -> None:
        super().__init__("unreachable", "closed the connection before it responded")


class HttpConnection(asyncio.Protocol):
    """Carries one call at a time. `keep_for` are the seconds that it may be kept after a call, 0 where it may not."""

    __slots__ = ("_clean_end", "_descriptor", "_response", "_transport", "_waiter", "keep_for")

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.keep_for = 0.0
        self._clean_end = False
        self._descriptor = -1
        self._response: _Response | None = None
        self._waiter: asyncio.Future[Reply] | None = None

    async def call(self, request: bytes, largest: int, deadline: float) -> Reply:
        """Send a request and read its response until `deadline`; of its body at most `largest` bytes are accepted.

        What has arrived by then counts, also where the process was stopped and nobody could read it.
        Raises TimeoutError, ResponseError, or ProblemError (upstream_tls_failed). Where it raises anything, the
        connection must be aborted.
        """
        if self._transport.is_closing():
            raise ClosedBeforeResponse
        self.keep_for = 0.0
        response = self._response = _Response(largest)
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        # A loop may look at its timers before its sockets: between these two it has looked at both.
        timer = loop.call_at(deadline, loop.call_later, LAST_LOOK, _expire, waiter)
        try:
            self._transport.write(request)
            reply: Reply = await waiter
        finally:
            timer.cancel()
            self._response = self._waiter = None
            response.release()
            # An error that it holds refers to this frame: the two would wait for the garbage collector.
            del waiter
        self.keep_for = 0.0 if self._transport.is_closing() else response.keep_for
        return reply

    def is_quiet(self) -> bool:
        """Whether it is open and nothing has arrived on it: an end or stray bytes make it unfit for another call."""
        if self._descriptor < 0 or self._transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close in order; no call may be under way."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected, and TLS is up."""
        self._transport = cast(asyncio.Transport, transport)
        self._descriptor = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        waiter, response = self._waiter, self._response
        if waiter is None or response is None or waiter.done():
            # Nothing was asked: these bytes could only be taken for the response to the next call.
            self.abort()
            return
        outcome = response.feed(data)
        if outcome is not None:
            _settle(waiter, outcome)

    def eof_received(self) -> bool:
        """The server sent close_notify; a bare end of TCP, which anyone on the path can forge, is not reported here."""
        self._clean_end = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for a response what became of it."""
        self._descriptor = -1
        waiter, response = self._waiter, self._response
        if waiter is None or response is None or waiter.done():
            return
        if response.started:
            if self._clean_end and exc is None and response.ends_with_connection:
                _settle(waiter, response.outcome())
            else:
                waiter.set_exception(ResponseError("invalid", "closed the connection in the middle of its response"))
        elif isinstance(exc, ssl.SSLError):
            # In TLS 1.3 a server refuses a client certificate after the handshake (RFC 8446 4.4.2.4).
            waiter.set_exception(ProblemError(tls_problem(exc)))
        else:
            waiter.set_exception(ClosedBeforeResponse())


def _expire(waiter: asyncio.Future[Reply]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


def _settle(waiter: asyncio.Future[Reply], outcome: Reply | ResponseError) -> None:
    if isinstance(outcome, ResponseError):
        waiter.set_exception(outcome)
    else:
        waiter.set_result(outcome)


class _Stop(Exception):
    """Raised inside a parser callback to stop the parser."""


class _Response:
    """A response while it is read: the parser's callbacks fill it."""

    def __init__(self, largest: int) -> None:
        self.started = False
        self.keep_for = 0.0
        self._largest = largest
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._reason = _NOT_HTTP
        self._status = 0
        self._headers: dict[str, str] = {}
        self._length = 0
        self._head_done = self._complete = False
        self._body = bytearray()
        self._gunzip: Gunzip | None = None
        self._received = self._without_body = 0

    @property
    def ends_with_connection(self) -> bool:
        """Whether its body has no other end."""
        return self._head_done and self._length == framing.UNTIL_CLOSE

    def outcome(self) -> Reply | ResponseError:
        """What was read, now that nothing follows."""
        # A body of no bytes, as with 204, is not coded at all, whatever the field says.
        if self._gunzip is not None and self._received and not self._gunzip.complete:
            return ResponseError("invalid", _NOT_GZIP)
        return Reply(self._status, self._headers, bytes(self._body))

    def release(self) -> None:
        """Let go of the parser, which refers back to this object."""
        self._parser = None

    def feed(self, data: bytes) -> Reply | ResponseError | None:
        """Take what was received: the response once it is whole, or what is wrong with it.

        An error is returned: one that was raised would refer to the frames that hold its future.
        """
        if self._parser is None:
            return None
        self.started = True
        before = self._received
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self._complete:
                return ResponseError("invalid", self._reason)
            # The response is whole; what follows it was not asked for.
            self.keep_for = 0.0
        if self._complete:
            return self.outcome()
        self._without_body = self._without_body + len(data) if self._received == before else 0
        if self._without_body > LARGEST_HEAD:
            return ResponseError("invalid", f"returned more than {LARGEST_HEAD >> 10} KiB of header fields")
        return None

    def _stop(self, reason: str) -> NoReturn:
        # Kept aside: httptools hides the exceptions of callbacks.
        self._reason = reason
        raise _Stop

    # httptools' callbacks.

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Stop

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer
        if len(name) + len(value) > LARGEST_FIELD:
            self._stop(f"returned a header field of more than {LARGEST_FIELD >> 10} KiB")
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        # A field that is repeated is one list (RFC 9110 5.3).
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        parser = cast(HttpResponseParser, self._parser)
        status, version = parser.get_status_code(), parser.get_http_version()
        if version not in ("1.1", "1.0") or status > 599 or status == 101:
            raise _Stop
        if status < 200:
            # 1xx: the final response follows (RFC 9110 15.2).
            self._headers = {}
            return
        headers = self._headers
        self._status, self._length, self._head_done = status, self._framed(status, version), True
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding in CODINGS:
            self._gunzip = Gunzip(self._largest)
        elif coding != "identity":
            self._stop("returned a content coding other than gzip, which was not requested")
        if self._length > self._largest:
            self._too_large()
        # What stands where no body may be cannot be told from the next response (RFC 9110 15.3.5).
        stray = status in framing.BODYLESS and not {"content-length", "transfer-encoding"}.isdisjoint(headers)
        if parser.should_keep_alive() and not stray:
            self.keep_for = _announced(headers.get("keep-alive", ""))

    def _framed(self, status: int, version: str) -> int:
        coding, length = self._headers.get("transfer-encoding"), self._headers.get("content-length")
        if coding is not None and version == "1.0":
            self._stop(_AMBIGUOUS)  # RFC 9112 6.1
        try:
            return framing.response_length(
                status,
                None if length is None else framing.content_length(length.encode("latin-1")),
                None if coding is None else coding.encode("latin-1"),
                head=False,
            )
        except framing.BadFraming:
            self._stop(_AMBIGUOUS)

    def on_body(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._largest:
            self._too_large()
        if self._gunzip is not None:
            try:
                chunk = self._gunzip.feed(chunk)
            except ValueError:
                self._stop(_NOT_GZIP)
            except TooLongError:
                self._too_large()
        self._body += chunk

    def _too_large(self) -> NoReturn:
        self._stop(f"returned more than {self._largest >> 10} KiB")

    def on_message_complete(self) -> None:
        self._complete = self._head_done


def _announced(keep_alive: str) -> float:
    """How long a server says it keeps an idle connection (RFC 2068 19.7.1.1), less a second for the way."""
    for parameter in keep_alive.split(","):
        name, _, seconds = parameter.strip().partition("=")
        if name.lower() == "timeout" and seconds.isascii() and seconds.isdigit():
            return max(0.0, float(seconds[:6]) - 1.0)
    return math.inf
