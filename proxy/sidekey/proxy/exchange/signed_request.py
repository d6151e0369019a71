"""A request that is signed each time it is written: what of it is signed, and what is held of its body."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from sidekey.credentials.signing import UNDRAWN, OutgoingRequest, RandomIds, Signer
from sidekey.errors import Problem
from sidekey.proxy.limits import BufferedBody

INLINE: Final = 256 << 10
"""Bytes of a body that is signed at once; a longer one is hashed in a thread, so that nobody waits for it."""

_PIECE: Final = 64 << 10
"""Bytes of a body that are written in one piece."""
_RANDOM: Final = 16
_NOTHING: Final[list[bytes]] = []
"""No piece of a body; nobody adds to it."""

Signing = Callable[[], list[bytes]]
"""Signs, and gives the field lines to add. It touches nothing that others write."""


class SignedRequest:
    """One request, while its exchange lasts.

    `holds_body` says that its body is held to be signed; `held` is that body, unless it came with the head.
    `streams_body` says that it is written as it comes: neither is it signed nor anything added to it. `is_slow` says
    that it is signed in a thread, `is_long` that this is since a long body is hashed, `is_written` that nothing of what
    is held is left to write, and `is_due` that the next piece of it is written in a turn of its own. What is said by
    `state` is not there before.
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
        "_size",
        "held",
        "holds_body",
        "is_due",
        "is_long",
        "is_slow",
        "is_written",
        "streams_body",
    )

    def __init__(self, reads_body: bool, fills_body: bool) -> None:
        self._reads_body: Final = reads_body
        self.holds_body: Final = reads_body and not fills_body
        self.streams_body: Final = not (reads_body or fills_body)
        self.held: BufferedBody | None = None
        self.is_written = True
        self.is_due = self._in_thread = self._is_over = False
        self._message = b""
        self._rest = _NOTHING

    def hold(self, held: BufferedBody) -> None:
        """Hold the body from now on."""
        self.held = held

    def state(self, outgoing: OutgoingRequest, body: list[bytes], size: int, signer: Signer) -> Problem | None:
        """Say what is to be written, as far as it is known, and who signs it; or why that cannot be.

        `size` is that of `body`, which is empty where the body streams.
        """
        self._outgoing, self._body, self._size, self._signer = outgoing, body, size, signer
        self._signature: list[bytes] | None = None
        self.is_long = size > INLINE and self._reads_body
        self.is_slow = self.is_long or signer.slow
        return signer.check(outgoing)

    def signing(self, now: float) -> Signing:
        """What signs it at that time, in seconds since the epoch: with a nonce of its own each time."""
        outgoing, signer = self._outgoing, self._signer
        unique, body = self._unique(signer), self._body if self._reads_body else _NOTHING
        return lambda: signer.sign(outgoing, body, now, unique)

    def _unique(self, signer: Signer) -> RandomIds:
        if not signer.draws:
            return UNDRAWN
        drawn = os.urandom(2 * _RANDOM)
        message = self._message = self._message or drawn[_RANDOM:]
        return RandomIds(message, drawn[:_RANDOM])

    def begin_in_thread(self) -> None:
        """A thread reads the body until `leave_thread`."""
        self._in_thread = True

    def leave_thread(self, signature: list[bytes] | None) -> None:
        """Take what the thread made; what it read is given up now where the exchange has ended meanwhile."""
        self._in_thread = False
        self._signature = signature
        if self._is_over:
            self.end()

    def write(self, wall: Callable[[], float]) -> list[bytes]:
        """The pieces of the head with its signature, and of the body as much as goes with it.

        The signature is the one that was made in a thread, once, or one of now, by the clock `wall`.
        """
        outgoing, signer, body, signature = self._outgoing, self._signer, self._body, self._signature
        if signature is None:
            signature = signer.sign(outgoing, body if self._reads_body else _NOTHING, wall(), self._unique(signer))
        self._body, self._signature = _NOTHING, None
        pieces = [outgoing.method, b" ", outgoing.target, b" HTTP/1.1", *outgoing.lines, *signature, b"\r\n\r\n"]
        if self._size <= _PIECE:
            pieces += body
            if self.held is not None:
                self.held.release(self._size)
        else:
            # Not joined with the head, which would copy it.
            self._rest = body[::-1]
            self.is_written = False
        return pieces

    def be_due(self, due: bool) -> None:
        """Note whether a turn is kept for the next piece."""
        self.is_due = due

    def next_piece(self) -> bytes:
        """What to write next of the body, which is not empty: one piece, or several short ones in one."""
        rest = self._rest
        piece = rest.pop()
        pieces, size = [piece], len(piece)
        while rest and size + len(rest[-1]) <= _PIECE:
            piece = rest.pop()
            pieces.append(piece)
            size += len(piece)
        if self.held is not None:
            self.held.release(size)
        self.is_written = not rest
        return piece if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """Hold nothing any more."""
        if self._in_thread:
            self._is_over = True
            return
        self._body = self._rest = _NOTHING
        if self.held is not None:
            self.held.end()
            self.held = None
