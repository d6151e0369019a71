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
    """One request, while its exchange lasts.

    `holds_body` says that its body is held to be signed, and `held` in which room, once it takes any. `streams_body`
    says that it is written as it comes: neither is it signed nor anything added to it. `in_one_piece` says that all of
    the request was there when it was written, `is_slow` that it is signed in a thread.
    """

    __slots__ = (
        "_body",
        "_in_thread",
        "_is_over",
        "_message",
        "_outgoing",
        "_reads_body",
        "_rest",
        "_signature",
        "_signer",
        "held",
        "holds_body",
        "in_one_piece",
        "is_slow",
        "streams_body",
    )

    def __init__(self, *, reads_body: bool, fills_body: bool) -> None:
        self._reads_body: Final = reads_body
        self.holds_body: Final = reads_body and not fills_body
        self.streams_body: Final = not (reads_body or fills_body)
        self.held: HeldBody | None = None
        self.in_one_piece = self.is_slow = False
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

    def state(self, outgoing: OutgoingRequest, body: list[bytes], size: int, signer: Signer) -> Problem | None:
        """Say what is to be written, as far as it is known, and who signs it; or why that cannot be.

        `size` is that of `body`, which is empty where the body streams.
        """
        self._outgoing, self._body, self._signer = outgoing, body, signer
        self._signature = None
        self.is_slow = signer.slow or (size > INLINE and self._reads_body)
        return signer.check(outgoing)

    def signing(self, now: float) -> Signing:
        """What signs it at that time, in seconds since the epoch: with a nonce of its own each time."""
        outgoing, signer = self._outgoing, self._signer
        if outgoing is None or signer is None:
            raise RuntimeError("the request was not stated")
        unique, body = self._unique(), self._body if self._reads_body else []
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

    def write(self, wall: Callable[[], float], *, in_one_piece: bool) -> tuple[list[bytes], int]:
        """The pieces of the head with its signature, and of the body as much as goes with it; and how much that is.

        The signature is the one that was made in a thread, once, or one of now, by the clock `wall`.
        """
        outgoing, signer, body, signature = self._outgoing, self._signer, self._body, self._signature
        if outgoing is None or signer is None:
            raise RuntimeError("the request was not stated")
        if signature is None:
            signature = signer.sign(outgoing, body if self._reads_body else (), wall(), self._unique())
        self.in_one_piece = in_one_piece
        self._body, self._signature = [], None
        pieces = [outgoing.method, b" ", outgoing.target, b" HTTP/1.1", *outgoing.lines, *signature, b"\r\n\r\n"]
        if not body:
            return pieces, 0
        size = len(body[0])
        if size <= _AT_ONCE and len(body) == 1:
            pieces.append(body[0])
            return pieces, size
        self._rest = body[::-1]
        if size > _AT_ONCE:
            # Not joined with the head, which would copy it.
            return pieces, 0
        first = self.next_pieces()
        return pieces + first, sum(map(len, first))

    @property
    def is_written(self) -> bool:
        """Whether nothing of what is held is left to write."""
        return not self._rest

    def next_pieces(self) -> list[bytes]:
        """What to write next of the body, which is not empty: one piece, or several that are short."""
        rest = self._rest
        pieces = [rest.pop()]
        size = len(pieces[0])
        while rest and size + len(rest[-1]) <= _AT_ONCE:
            pieces.append(rest.pop())
            size += len(pieces[-1])
        return pieces

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
