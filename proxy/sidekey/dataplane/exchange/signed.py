"""A request that is signed each time it is written: what of it is signed, and what is held of its body."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from sidekey.core.signing import OutgoingRequest, Signer, Unique
from sidekey.dataplane.held_bodies import HeldBody
from sidekey.errors import Problem

INLINE: Final = 256 << 10
"""Bytes of a body that is signed at once; a longer one is hashed in a thread, so that nobody waits for it."""

_AT_ONCE: Final = 64 << 10
"""Bytes of a body that are written in one piece."""
_RANDOM: Final = 16

Signing = Callable[[], list[bytes]]
"""Signs, and gives the field lines to add. It touches nothing that others write."""


class SignedRequest:
    """One request, while its exchange lasts. `reads_body` says that it is signed with its body.

    `holds_body` says that the body is held for that alone, and `held` what room it takes, if there is one;
    `in_one_piece` that all of the request was there when it was written.
    """

    __slots__ = (
        "_body",
        "_in_thread",
        "_is_over",
        "_message",
        "_outgoing",
        "_rest",
        "_signature",
        "_signer",
        "held",
        "holds_body",
        "in_one_piece",
        "reads_body",
    )

    def __init__(self, *, reads_body: bool, holds_body: bool) -> None:
        self.reads_body: Final = reads_body
        self.holds_body: Final = holds_body
        self.held: HeldBody | None = None
        self.in_one_piece = False
        self._message = b""
        self._signer: Signer | None = None
        self._outgoing: OutgoingRequest | None = None
        self._body: list[bytes] = []
        self._signature: list[bytes] | None = None
        self._rest: list[bytes] = []
        self._in_thread = self._is_over = False

    def hold(self, held: HeldBody) -> None:
        """Hold the body from now on."""
        self.held = held

    def state(self, outgoing: OutgoingRequest, body: list[bytes], signer: Signer) -> Problem | None:
        """Say what is to be written, as far as it is known, and who signs it; or why that cannot be."""
        self._outgoing, self._body, self._signer = outgoing, body, signer
        self._signature = None
        return signer.check(outgoing)

    @property
    def is_slow(self) -> bool:
        """Whether it is signed in a thread."""
        signer = self._signer
        return signer is not None and (signer.slow or (self.reads_body and sum(map(len, self._body)) > INLINE))

    def _stated(self) -> tuple[OutgoingRequest, Signer]:
        outgoing, signer = self._outgoing, self._signer
        if outgoing is None or signer is None:
            raise RuntimeError("the request was not stated")
        return outgoing, signer

    def signing(self, now: float) -> Signing:
        """What signs it at that time, in seconds since the epoch: with a nonce of its own each time."""
        outgoing, signer = self._stated()
        unique, body = self._unique(), self._body if self.reads_body else []
        return lambda: signer.sign(outgoing, body, now, unique)

    def _unique(self) -> Unique:
        drawn = os.urandom(2 * _RANDOM)
        message = self._message = self._message or drawn[_RANDOM:]
        return Unique(message, drawn[:_RANDOM])

    def begin_in_thread(self) -> None:
        """A thread reads the body until `leave_thread`."""
        self._in_thread = True

    def leave_thread(self, signature: list[bytes] | None) -> None:
        """Take what the thread made; what it read is given up now where the exchange has ended meanwhile."""
        self._in_thread = False
        self._signature = signature
        if self._is_over:
            self.end()

    def head(self, now: float) -> list[bytes]:
        """The pieces of the head with its signature: the one that was made in a thread, once, or one of now."""
        outgoing, signer = self._stated()
        signature, self._signature = self._signature, None
        if signature is None:
            signature = signer.sign(outgoing, self._body if self.reads_body else (), now, self._unique())
        return [outgoing.method, b" ", outgoing.target, b" HTTP/1.1", *outgoing.lines, *signature, b"\r\n\r\n"]

    def begin_body(self, *, in_one_piece: bool) -> None:
        """All of the body that is held is to be written now."""
        self.in_one_piece = in_one_piece
        self._rest, self._body = self._body[::-1], []

    @property
    def is_written(self) -> bool:
        """Whether nothing of what is held is left to write."""
        return not self._rest

    def next_body(self) -> bytes:
        """The next bytes of the body to write; pieces that are short are joined."""
        rest = self._rest
        if not rest:
            return b""
        piece = rest.pop()
        if len(piece) < _AT_ONCE and rest:
            pieces, size = [piece], len(piece)
            while rest and size + len(rest[-1]) <= _AT_ONCE:
                piece = rest.pop()
                pieces.append(piece)
                size += len(piece)
            piece = b"".join(pieces)
        return piece

    def written(self, size: int) -> None:
        """So many bytes of the body are written."""
        if self.held is not None and size:
            self.held.written(size)

    def end(self) -> None:
        """Hold nothing any more."""
        if self._in_thread:
            self._is_over = True
            return
        self._body, self._rest = [], []
        if self.held is not None:
            self.held.end()
            self.held = None
