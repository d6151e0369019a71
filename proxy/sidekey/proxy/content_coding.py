"""The content coding of bodies that Sidekey must read: gzip, or none (RFC 9110 8.4).

One step decodes a bounded number of bytes, however much a few bytes inflate to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sidekey.policy.headers import line_values, tokens

# Only the type stubs have this name.
if TYPE_CHECKING:
    from zlib import _Decompress

STEP: Final = 64 << 10
"""Maximum number of bytes that one step returns."""

_INPUT: Final = 4 << 10
"""Maximum number of bytes that one step reads. It is small, because zlib returns a copy of unused input."""

_GZIP: Final = frozenset({b"gzip", b"x-gzip"})
"""Both names mean the same (RFC 9110 8.4.1.3)."""

_GZIP_FORMAT: Final = 31


class UnreadableCoding(Exception):
    """The body cannot be decoded. The message says why, and contains no text of the upstream."""


def accept_encoding_line(lines: Iterable[bytes]) -> bytes:
    """Build the Accept-Encoding line for the upstream: gzip if the caller accepts it, else no coding.

    Without the line, an upstream may send any coding (RFC 9110 12.5.3).
    """
    for value in line_values(lines, b"accept-encoding"):
        for member in tokens(value):
            coding, _, weight = member.partition(b";")
            if coding.strip(b" \t") in _GZIP and not _is_zero(weight):
                return b"\r\nAccept-Encoding: gzip"
    return b"\r\nAccept-Encoding: identity"


def _is_zero(weight: bytes) -> bool:
    """Return True for a weight that means "not acceptable" (RFC 9110 12.4.2)."""
    return bool(weight) and not weight.replace(b" ", b"").replace(b"\t", b"").removeprefix(b"q=").strip(b"0.")


def is_gzip(lines: Iterable[bytes]) -> bool:
    """Return True for a body in gzip, False for one without a coding. Raises UnreadableCoding for another coding."""
    codings = [coding for value in line_values(lines, b"content-encoding") for coding in tokens(value)]
    if codings in ([], [b"identity"]):
        return False
    if len(codings) == 1 and codings[0] in _GZIP:
        return True
    raise UnreadableCoding("the content coding of the upstream's response cannot be read, so it cannot be redacted")


class GzipDecoder:
    """Decodes a gzip body in steps.

    `_rest` from `_at` on are coded bytes that no step has read yet. `_input` was read, but not decoded yet. `_full` is
    True if the last step reached `STEP`, so that zlib may hold more output.
    """

    __slots__ = ("_at", "_full", "_inflate", "_input", "_rest", "_whole")

    def __init__(self) -> None:
        self._inflate: _Decompress | None = None
        self._input = b""
        self._rest = b""
        self._at = 0
        self._full = False
        self._whole = False

    def feed(self, data: bytes, *, whole: bool) -> None:
        """Add the next bytes of the coded body; `whole` is True if no more follow."""
        self._rest = self._rest[self._at :] + data
        self._at = 0
        self._whole |= whole

    @property
    def can_step(self) -> bool:
        """Return True if a step may return bytes, or find an error, without further input."""
        return self._full or bool(self._input) or self._at < len(self._rest)

    def step(self) -> bytes:
        """Return the next decoded bytes, at most `STEP`. Raises UnreadableCoding."""
        out = b""
        if self.can_step:
            if not self._input:
                self._input = self._rest[self._at : self._at + _INPUT]
                self._at += len(self._input)
            inflate = self._inflate or zlib.decompressobj(_GZIP_FORMAT)
            try:
                out = inflate.decompress(self._input, STEP)
            except zlib.error:
                raise _broken() from None
            self._full = len(out) == STEP and not inflate.eof
            self._input = inflate.unconsumed_tail + inflate.unused_data
            # Another member may follow (RFC 1952 2.2).
            self._inflate = None if inflate.eof else inflate
        if self._whole and not self.can_step and self._inflate is not None:
            raise _broken()
        return out


def _broken() -> UnreadableCoding:
    return UnreadableCoding("the content coding of the upstream's response is broken, so it cannot be redacted")
