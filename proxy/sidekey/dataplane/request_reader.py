"""Reads requests off a caller's bytes: the parser's callbacks, and the bounds of what the parser may gather."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from httptools import HttpParserError, HttpRequestParser

from sidekey.core.framing import CHUNKED, DIGITS
from sidekey.core.headers import REQUEST_ROLES, Names, Role
from sidekey.dataplane.exchange import Exchange
from sidekey.dataplane.request_rules import HEAD_TOO_LARGE, MALFORMED, BadRequest, check_head, check_size, note_field
from sidekey.errors import Problem

if TYPE_CHECKING:
    from sidekey.dataplane.plane import Plane

NAMES = Names(REQUEST_ROLES)
_KNOWN = NAMES.known
_CONTENT_LENGTH = Role.CONTENT_LENGTH
_HOST = Role.HOST

HEAD_END = b"\r\n\r\n"


class RequestReader:
    """The parsing half of a caller's connection: requests whose head is whole are appended to `_queue`.

    `_reading` is the request that the parser is in, `_in_head` whether its head is not whole; `_held` are bytes kept
    back from the parser while as many requests wait as may. Callbacks only take in; nothing is acted on before the read
    they come from has parsed.
    """

    __deletable__ = ("_feed", "_parser")
    __slots__ = (
        "_barren",
        "_check_size",
        "_fed",
        "_feed",
        "_held",
        "_in_head",
        "_parser",
        "_priming",
        "_queue",
        "_reading",
        "plane",
    )

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self._queue: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._held = b""
        self._fed = 0
        self._barren = 0
        self._check_size = False
        self._in_head = False
        self._priming = False
        self._fresh_parser()

    def _fresh_parser(self) -> None:
        self._parser = HttpRequestParser(self)
        self._feed = self._parser.feed_data

    def _forget_parser(self) -> None:
        """Break the cycle: the parser holds this object's callbacks."""
        self._reading = None
        del self._parser, self._feed

    @staticmethod
    def _fault_of(error: HttpParserError) -> Problem:
        """What a read that does not parse is answered with: httptools hides a callback's exception behind its own."""
        cause = error.__context__
        return cause.problem if isinstance(cause, BadRequest) else MALFORMED

    def _bound(self, reading: Exchange, size: int, *, was_in_head: bool) -> Problem | None:
        """Bound what the parser gathers of a head, a trailer or a chunk extension over several reads."""
        limit = self.plane.limits.request_head
        if self._in_head:
            self._fed += size if was_in_head else 0
            return check_size(reading, self.plane.limits) or HEAD_TOO_LARGE if self._fed > limit else None
        if reading.length == CHUNKED:
            self._barren = self._barren + size if reading.seen == reading.received else 0
            reading.seen = reading.received
            if self._barren > limit:
                detail = "the trailers or chunk extensions are over limits.request_head"
                return Problem("request_too_large", detail, status=431)
        return None

    def _pass_over_upgrade(self) -> None:
        """Go on after an upgrade that is passed over (RFC 9110 7.8).

        llhttp stops after the head and takes the message for complete; a fresh parser, primed with the framing fields,
        reads the body.
        """
        reading = self._reading
        self._fresh_parser()
        if reading is None:
            return
        if not reading.length:
            reading.complete = True
            self._reading = None
            return
        chunked = reading.length == CHUNKED
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % reading.length
        self._priming = True
        self._feed(b"POST / HTTP/1.1\r\n" + framing + HEAD_END)
        self._priming = False

    def _crowded(self, data: bytes) -> bool:
        """Whether a read may hold more requests than may wait."""
        return self._body_left() < len(data) and data.count(HEAD_END) > self.plane.limits.pipelined

    def _body_left(self) -> int:
        """What is still to come of the body that the parser is in, where its length was given."""
        reading = self._reading
        return 0 if reading is None or self._in_head else max(0, reading.length - reading.received)

    def _cut(self) -> bytes:
        """The next piece of what was held back: the rest of a body, or no more heads than may wait."""
        held = self._held
        left = self._body_left()
        if left:
            self._held = held[left:]
            return held[:left]
        end = -len(HEAD_END)
        for _ in range(self.plane.limits.pipelined):
            end = held.find(HEAD_END, end + len(HEAD_END))
            if end < 0:
                self._held = b""
                return held
        end += len(HEAD_END)
        self._held = held[end:]
        return held[:end]

    # httptools' callbacks.

    def on_url(self, url: bytes) -> None:
        reading = self._reading
        if reading is None:
            reading = self._reading = Exchange(self)  # type: ignore[arg-type]  # always half of a CallerConnection
            reading.target = url
            self._in_head = True
            self._fed = self._barren = 0
        elif not self._priming:
            reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # A trailer, dropped: it must not be merged into the head (RFC 9110 6.5.1).
            return
        reading = self._reading
        if reading is None:
            return
        role, normal, start = _KNOWN.get(name) or NAMES.learn(name)
        if role is _CONTENT_LENGTH and value.isdigit() and len(value) < DIGITS:
            reading.length = int(value)
            reading.length_given = True
        elif role is _HOST and reading.host is None:
            reading.host = value
        elif role:
            note_field(reading, role, value, normal, start)
        else:
            reading.lines.append(start + value)
            reading.names.append(normal)

    def on_headers_complete(self) -> None:
        reading = self._reading
        if reading is None or self._priming:
            return
        check_head(reading, self._parser, self.plane.limits)
        if self._check_size and (fault := check_size(reading, self.plane.limits)) is not None:
            raise BadRequest(fault)
        self._in_head = False
        self._queue.append(reading)

    def on_body(self, chunk: bytes) -> None:
        reading = self._reading
        if reading is not None:
            reading.received += len(chunk)
            reading.body.append(chunk)
            if reading.received > self.plane.limits.request_body:
                raise BadRequest(Problem("request_too_large", "the body is over limits.request_body", sent="maybe"))

    def on_message_complete(self) -> None:
        reading = self._reading
        if reading is not None and (reading.marks is None or not self._parser.should_upgrade()):
            reading.complete = True
            self._reading = None
