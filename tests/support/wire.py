"""An independent and strict parser of HTTP/1.1 messages, to check the bytes that Sidekey sends."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (?P<status>[1-5][0-9]{2}) [\t\x20-\x7e\x80-\xff]*")
_FIELD = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_BODILESS = (b"1", b"204", b"304")


class InvalidMessage(AssertionError):
    """The bytes are not a sequence of messages that are each framed in exactly one way."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response. Header names are lower case, in received order. `body` has no chunk framing."""

    start: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    trailers: tuple[tuple[bytes, bytes], ...]
    length: int
    """How many bytes the message took on the wire."""

    @property
    def status(self) -> int:
        """Status code of a response."""
        return int(self.start.split(b" ", 2)[1])

    @property
    def method(self) -> bytes:
        """Method of a request."""
        return self.start.split(b" ", 2)[0]

    @property
    def target(self) -> bytes:
        """Target of a request, as sent."""
        return self.start.split(b" ", 2)[1]

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers, except for the ID of each response."""
        return tuple(field for field in self.headers if field[0] != b"sidekey-request-id")

    def values(self, name: bytes) -> list[bytes]:
        """Return every value of a header, by its name in lower case."""
        return [value for other, value in self.headers if other == name]


def requests(data: bytes) -> list[Message]:
    """Parse every request in `data`. Raises InvalidMessage if the last one is incomplete."""
    messages: list[Message] = []
    while data:
        message = first_request(data)
        if message is None:
            raise InvalidMessage(f"an incomplete request at the end: {data!r}")
        messages.append(message)
        data = data[message.length :]
    return messages


def first_request(data: bytes) -> Message | None:
    """Parse the request at the start of `data`, or return None while it is incomplete."""
    return _first(data, _REQUEST_LINE, to_head=False, ended=False)


def first_response(data: bytes, *, to_head: bool = False, ended: bool = False) -> Message | None:
    """Parse the response at the start of `data`, or return None while it is incomplete.

    `to_head` says that it is a response to HEAD, and `ended` that the connection was closed cleanly after `data`, which
    completes a response without framing (RFC 9112 6.3).
    """
    return _first(data, _STATUS_LINE, to_head=to_head, ended=ended)


def _first(data: bytes, start_line: re.Pattern[bytes], *, to_head: bool, ended: bool) -> Message | None:
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    start, *lines = data[:end].split(b"\r\n")
    if not start_line.fullmatch(start):
        raise InvalidMessage(f"not a start line: {start!r}")
    headers = _fields(lines)
    rest = data[end + 4 :]
    coding = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(coding) + len(lengths) > 1:
        raise InvalidMessage(f"framed in more than one way: {headers!r}")
    response = start_line is _STATUS_LINE
    if response and (to_head or start.split(b" ", 2)[1].startswith(_BODILESS)):
        return Message(start, headers, b"", (), end + 4)
    if coding:
        return _chunked(start, headers, coding[0], rest, end + 4)
    if lengths:
        if not lengths[0].isdigit():
            raise InvalidMessage(f"not a length: {lengths[0]!r}")
        size = int(lengths[0])
        return Message(start, headers, rest[:size], (), end + 4 + size) if len(rest) >= size else None
    if response:
        return Message(start, headers, rest, (), len(data)) if ended else None
    return Message(start, headers, b"", (), end + 4)


def _fields(lines: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise InvalidMessage(f"not a header line: {line!r}")
        fields.append((match["name"].lower(), match["value"]))
    return tuple(fields)


def _chunked(
    start: bytes, headers: tuple[tuple[bytes, bytes], ...], coding: bytes, rest: bytes, head: int
) -> Message | None:
    if coding.lower() != b"chunked":
        raise InvalidMessage(f"not the chunked coding: {coding!r}")
    body, at = b"", 0
    while True:
        end = rest.find(b"\r\n", at)
        if end < 0:
            return None
        if not _CHUNK_SIZE.fullmatch(rest, at, end):
            raise InvalidMessage(f"not a chunk size: {rest[at:end]!r}")
        size, at = int(rest[at:end], 16), end + 2
        if size == 0:
            break
        if len(rest) < at + size + 2:
            return None
        if rest[at + size : at + size + 2] != b"\r\n":
            raise InvalidMessage("a chunk does not end with its line")
        body, at = body + rest[at : at + size], at + size + 2
    # The trailer section ends like a head: with an empty line (RFC 9112 7.1.2).
    end = rest.find(b"\r\n", at) if rest.startswith(b"\r\n", at) else rest.find(b"\r\n\r\n", at) + 2
    if end < max(at, 2):
        return None
    lines = rest[at:end].split(b"\r\n") if end > at else []
    return Message(start, headers, body, _fields([line for line in lines if line]), head + end + 2)
