"""Remove secrets from the body of a response on its way to the caller, decoded and in bounded steps."""

from __future__ import annotations

from typing import Final

from sidekey.core.codings import GzipDecoder, is_gzip
from sidekey.core.framing import UNTIL_CLOSE
from sidekey.core.headers import OF_EXACT_BODY, without
from sidekey.core.redaction import RedactedStream, Redactor
from sidekey.core.response import ResponseHead


class RedactedBody:
    """The body of one response. `over` is True once `step` has returned all of it.

    It keeps only what the steps have left of one read, because a decoded body may be a thousand times longer. Raises
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
        """Add the next bytes from the upstream; `whole` says that no more follow."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._whole |= whole
        if self._decoder is not None:
            self._decoder.feed(data, whole=whole)
        else:
            self._plain += data

    @property
    def waits(self) -> bool:
        """Return True if a step may return bytes, or the end, without further input."""
        return not self.over and (
            self._whole or bool(self._plain) or (self._decoder is not None and self._decoder.waits)
        )

    def step(self) -> bytes:
        """Return the next bytes for the caller; none if they may begin a secret. Raises UnreadableCoding."""
        decoder = self._decoder
        if decoder is None:
            out, self._plain = self._stream.feed(self._plain), b""
        else:
            out = self._stream.feed(decoder.step())
        if self._whole and (decoder is None or not decoder.waits):
            self.over = True
            out += self._stream.finish()
        return out


def readable_head(head: ResponseHead) -> ResponseHead:
    """Return the head without the length of the body and the headers that hold for its exact bytes alone."""
    length = UNTIL_CLOSE if head.length else 0
    return ResponseHead(head.status, without(head.fields, OF_EXACT_BODY), head.connection, length, None)
