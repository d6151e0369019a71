"""Decodes a gzip body (RFC 1952) as it arrives, up to a size that is known beforehand."""

from __future__ import annotations

import zlib

CODINGS = frozenset({"gzip", "x-gzip"})
"""The names of the coding (RFC 9110 8.4.1.3)."""

_GZIP = 16 + zlib.MAX_WBITS
"""zlib's way to say: with the header and the trailer of gzip."""


class TooLongError(Exception):
    """The body is longer than it may be."""


class Gunzip:
    """One body of one member. Whatever is sent, no more than `largest` decoded bytes and one are ever made of it."""

    __slots__ = ("_decoder", "_left")

    def __init__(self, largest: int) -> None:
        self._decoder = zlib.decompressobj(_GZIP)
        self._left = largest

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes of the next piece.

        Raises ValueError where it is not gzip or goes on behind its end, and TooLongError; then nothing may follow.
        """
        try:
            # One byte more shows that there is more; a maximum of 0 would be none at all.
            decoded = self._decoder.decompress(data, self._left + 1)
        except zlib.error:
            raise ValueError("must be gzip") from None
        if len(decoded) > self._left:
            raise TooLongError
        if self._decoder.unused_data:
            raise ValueError("must end with its first member")
        self._left -= len(decoded)
        return decoded

    @property
    def complete(self) -> bool:
        """Whether the end was reached, where the checksum was right."""
        return self._decoder.eof
