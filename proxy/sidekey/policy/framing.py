"""Find the length of message bodies where llhttp leaves it to its user (RFC 9112 6). Refuse ambiguous framing."""

from __future__ import annotations

from typing import Final

CHUNKED: Final = -1
"""Length of a body in chunked transfer coding."""

BODYLESS: Final = frozenset({204, 304})
"""Final statuses without a body (RFC 9110 15.3.5, 15.4.5)."""

MAX_DIGITS: Final = 18
"""Maximum digits of a Content-Length. With more it may not fit into 64 bits."""

UNTIL_CLOSE: Final = -2
"""Length of a response body that ends with the connection."""

# Most bodies have one of few lengths. Together, these two caches save 3 % of an exchange (compiled, without sockets).

_SHORT: Final = 8 << 10
_SHORT_LINES: Final[list[bytes]] = [b""] * _SHORT
"""Content-Length fields by length, filled when they are first written."""

KNOWN_LENGTHS: Final[dict[bytes, int]] = {}
"""Lengths by the value of Content-Length. `content_length` adds the first valid values that it parses."""

_KNOWN_LIMIT: Final = 1024


class BadFraming(ValueError):
    """The framing is ambiguous (400), or with `unknown_coding` uses a coding that is not implemented (501)."""

    def __init__(self, reason: str, *, unknown_coding: bool = False) -> None:
        super().__init__(reason)
        self.unknown_coding = unknown_coding


def content_length(value: bytes) -> int:
    """Parse Content-Length (1*DIGIT, RFC 9110 8.6). Raises BadFraming."""
    if not value.isdigit():
        value = value.strip(b" \t")
    if not value.isdigit() or len(value) > MAX_DIGITS:
        raise BadFraming("Content-Length must be a number of bytes")
    length = int(value)
    if len(KNOWN_LENGTHS) < _KNOWN_LIMIT:
        KNOWN_LENGTHS[value] = length
    return length


def transfer_encoding(value: bytes) -> int:
    """Return CHUNKED, the only supported coding. Raises BadFraming for every other value."""
    codings = [part.strip(b" \t") for part in value.lower().split(b",")]
    if codings == [b"chunked"]:
        return CHUNKED
    if codings[-1] == b"chunked" and codings.count(b"chunked") == 1:
        raise BadFraming("Transfer-Encoding must not have a coding other than chunked", unknown_coding=True)
    raise BadFraming("Transfer-Encoding must end in chunked, once")


def length_line(length: int) -> bytes:
    """Return the Content-Length line, which begins with the preceding CRLF."""
    if length >= _SHORT:
        return b"\r\nContent-Length: %d" % length
    line = _SHORT_LINES[length]
    if not line:
        line = _SHORT_LINES[length] = b"\r\nContent-Length: %d" % length
    return line


def coded_length(encoding: bytes, *, has_content_length: bool, http_1_1: bool) -> int:
    """Return CHUNKED for a request with Transfer-Encoding. Raises BadFraming (RFC 9112 6.1)."""
    if has_content_length:
        raise BadFraming("Content-Length and Transfer-Encoding must not both be given")
    if not http_1_1:
        raise BadFraming("Transfer-Encoding must not be given in an HTTP/1.0 request")
    return transfer_encoding(encoding)


def response_length(status: int, length: int | None, encoding: bytes | None, *, head: bool) -> int:
    """Return the length of a response body that the upstream sends (RFC 9112 6.3). Raises BadFraming."""
    if encoding is not None:
        if length is not None:
            raise BadFraming("Content-Length and Transfer-Encoding must not both be given")
        length = transfer_encoding(encoding)
    if head or status < 200 or status in BODYLESS:
        return 0
    return UNTIL_CLOSE if length is None else length
