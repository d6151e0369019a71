"""Content codings of bodies that must be read (RFC 9110 8.4): which can be, and reading them piece by piece.

gzip and deflate are; the standard library has no Brotli, and zstd only since Python 3.14. The output of one step is
bounded, however much a few bytes inflate to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from sidekey.core.headers import line_values, tokens

# Only the type stubs have this name.
if TYPE_CHECKING:
    from zlib import _Decompress

STEP: Final = 64 << 10
"""Bytes that one step gives out at most."""

_INPUT: Final = 4 << 10
"""Bytes that one step takes at most: zlib hands back what it did not take, as a copy."""

_FIRST: Final = 2
"""Bytes that tell which format it is."""

_GZIP: Final = b"gzip"
_DEFLATE: Final = b"deflate"
_IDENTITY: Final = b"identity"
_READABLE: Final = {_GZIP: _GZIP, b"x-gzip": _GZIP, _DEFLATE: _DEFLATE, _IDENTITY: _IDENTITY}
"""RFC 9110 8.4.1, and the name that 8.4.1.3 has recipients read as gzip."""

_WINDOW_OF_GZIP: Final = 31
_WINDOW_OF_ZLIB: Final = 15
_WINDOW_OF_BARE_DEFLATE: Final = -15


class UnreadableCoding(Exception):
    """The body cannot be read; the message says why, and holds nothing that an upstream wrote."""


def acceptable(lines: Iterable[bytes]) -> bytes:
    """The line of Accept-Encoding that asks for what can be read alone: what the caller accepts of it, else identity.

    Without the field any coding may come (RFC 9110 12.5.3).
    """
    accepted = []
    wanted = False
    for value in line_values(lines, b"accept-encoding"):
        for member in tokens(value):
            coding, _, weight = member.partition(b";")
            if coding.strip(b" \t") in _READABLE:
                accepted.append(member)
                wanted |= not _is_zero(weight)
    return b"\r\nAccept-Encoding: " + (b", ".join(accepted) if wanted else _IDENTITY)


def _is_zero(weight: bytes) -> bool:
    """Whether a weight says "not acceptable" (RFC 9110 12.4.2)."""
    return not weight.replace(b" ", b"").replace(b"\t", b"").removeprefix(b"q=").strip(b"0.") if weight else False


def coding_of(lines: Iterable[bytes]) -> bytes:
    """The one content coding that the fields name; empty where there is none. Raises UnreadableCoding."""
    codings = [coding for value in line_values(lines, b"content-encoding") for coding in tokens(value)]
    if len(codings) > 1 or any(coding not in _READABLE for coding in codings):
        raise UnreadableCoding("the content coding of the upstream's response cannot be read, so it cannot be redacted")
    coding = _READABLE[codings[0]] if codings else _IDENTITY
    return b"" if coding == _IDENTITY else coding


class Decoder:
    """Reads a body in gzip or deflate. `waits` says that there is more to give out without further input.

    Some servers send deflate without the zlib format around it (RFC 9110 8.4.1.2): the first two bytes tell.
    """

    __slots__ = ("_at", "_coding", "_ended", "_full", "_inflate", "_input", "_rest", "_whole")

    def __init__(self, coding: bytes) -> None:
        self._coding: Final = coding
        self._inflate: _Decompress | None = None
        self._input = b""
        self._rest = b""
        self._at = 0
        self._full = False
        self._ended = False
        self._whole = False

    def feed(self, data: bytes, *, whole: bool) -> None:
        """More of the coded body has come, or its end."""
        self._rest = self._rest[self._at :] + data
        self._at = 0
        self._whole |= whole

    @property
    def _left(self) -> int:
        """Bytes of input that were not taken yet."""
        return len(self._input) + len(self._rest) - self._at

    @property
    def waits(self) -> bool:
        """Whether a step may give out something, or find that the body is broken."""
        if self._inflate is None and not self._whole:
            return self._left >= _FIRST
        return self._full or self._left > 0

    def step(self) -> bytes:
        """The next bytes, `STEP` at most. Raises UnreadableCoding."""
        out = b""
        if self.waits:
            if len(self._input) < _FIRST:
                self._input += self._rest[self._at : self._at + _INPUT]
                self._at = min(self._at + _INPUT, len(self._rest))
            inflate = self._inflate
            if inflate is None:
                inflate = self._inflate = self._begin()
            try:
                out = inflate.decompress(self._input, STEP)
            except zlib.error:
                raise _broken() from None
            self._full = len(out) == STEP
            self._input = inflate.unconsumed_tail + inflate.unused_data
            if inflate.eof:
                # A member has ended; gzip may have another (RFC 1952 2.2).
                self._inflate, self._full, self._ended = None, False, True
        if self._whole and not self.waits and self._inflate is not None:
            raise _broken()
        return out

    def _begin(self) -> _Decompress:
        if self._coding == _GZIP:
            return zlib.decompressobj(_WINDOW_OF_GZIP)
        if self._ended:
            raise _broken()
        has_format = self._input[0] & 15 == 8 and int.from_bytes(self._input[:_FIRST], "big") % 31 == 0
        return zlib.decompressobj(_WINDOW_OF_ZLIB if has_format else _WINDOW_OF_BARE_DEFLATE)


def _broken() -> UnreadableCoding:
    return UnreadableCoding("the content coding of the upstream's response is broken, so it cannot be redacted")
