"""Response bodies: one held back because its status may reject the grant, and one from which secrets are removed."""

from __future__ import annotations

from typing import Final

from sidekey.policy.framing import UNTIL_CLOSE
from sidekey.policy.headers import EXACT_BODY_FIELDS, drop_fields
from sidekey.policy.messages import ResponseHead
from sidekey.policy.redaction import RedactedStream, Redactor
from sidekey.proxy.content_coding import GzipDecoder, is_gzip

MAX_HELD: Final = 64 << 10
"""Maximum size of a body that is held back. If it is longer, the status alone decides whether it rejects the grant."""


class HeldResponse:
    """The head for the caller, and the part of the body that has arrived, without framing.

    `chunked` is True if the caller gets the body in chunks, `readable` if it has no content coding, and `whole` once
    all of it has arrived.
    """

    __slots__ = ("_body", "_head", "_readable", "_size", "chunked", "whole")

    def __init__(self, head: list[bytes], *, chunked: bool, readable: bool) -> None:
        self.chunked: Final = chunked
        self.whole = False
        self._head = head
        self._readable = readable
        self._body: list[bytes] = []
        self._size = 0

    def add(self, pieces: list[bytes], *, whole: bool) -> None:
        """Add a part of the body; `whole` is True for the last part."""
        self._body += pieces
        self._size += sum(map(len, pieces))
        self.whole |= whole

    @property
    def is_full(self) -> bool:
        """Return True if the body is longer than `MAX_HELD`."""
        return self._size > MAX_HELD

    @property
    def content(self) -> bytes | None:
        """Return the body, or None if it is incomplete or has a content coding."""
        return b"".join(self._body) if self.whole and self._readable and not self.is_full else None

    def serialize(self) -> bytes:
        """Serialize head and body for the caller."""
        if not self.chunked:
            return b"".join([*self._head, *self._body])
        body = [b"%x\r\n" % self._size, *self._body, b"\r\n"] if self._size else []
        return b"".join([*self._head, *body, b"0\r\n\r\n" if self.whole else b""])


class RedactedBody:
    """The body of one response, from which `step` removes secrets. `over` is True once `step` has returned all of it.

    It keeps the coded bytes and decodes them in steps, because a decoded body may be a thousand times longer. Raises
    UnreadableCoding for a content coding that Sidekey cannot decode.
    """

    __slots__ = ("_decoder", "_plain", "_stream", "_whole", "over")

    def __init__(self, head: ResponseHead, redactor: Redactor) -> None:
        self.over = False
        self._decoder: Final = GzipDecoder() if is_gzip(head.fields) else None
        self._stream: Final = RedactedStream(redactor)
        self._plain = b""
        self._whole = False

    def add(self, pieces: list[bytes], *, whole: bool) -> None:
        """Add the next bytes from the upstream; `whole` is True for the last ones."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._whole |= whole
        if self._decoder is not None:
            self._decoder.feed(data, whole=whole)
        else:
            self._plain += data

    @property
    def can_step(self) -> bool:
        """Return True if `step` may return bytes or reach the end before more input arrives."""
        return not self.over and (
            self._whole or bool(self._plain) or (self._decoder is not None and self._decoder.can_step)
        )

    def step(self) -> bytes:
        """Return the next bytes for the caller, except those that may begin a secret. Raises UnreadableCoding."""
        decoder = self._decoder
        if decoder is None:
            out, self._plain = self._stream.feed(self._plain), b""
        else:
            out = self._stream.feed(decoder.step())
        if self._whole and (decoder is None or not decoder.can_step):
            self.over = True
            out += self._stream.finish()
        return out


def redacted_head(head: ResponseHead) -> ResponseHead:
    """Return the head without Content-Length and headers such as digests, which a redacted body no longer matches."""
    length = UNTIL_CLOSE if head.length else 0
    return ResponseHead(head.status, drop_fields(head.fields, EXACT_BODY_FIELDS), head.connection, length, None)
