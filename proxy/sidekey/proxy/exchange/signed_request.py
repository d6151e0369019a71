"""A request that is signed each time it is written, with the body that is held until then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from sidekey.credentials.signing import NO_RANDOM_IDS, OutgoingRequest, RandomIds, Signer
from sidekey.errors import Problem
from sidekey.proxy.limits import BufferedBody
from sidekey.proxy.worker import Worker

INLINE: Final = 256 << 10
"""Bytes of a body that is signed on the event loop. A longer one is hashed in a thread, to block no other request."""

_PIECE: Final = 64 << 10
"""Bytes of a body that are written in one piece."""
_RANDOM: Final = 16
_NOTHING: Final[list[bytes]] = []
"""An empty body; never changed."""

Signing = Callable[[], list[bytes]]
"""Signs and returns the header lines to add. It may run in a thread, since it touches nothing that others write."""


class SignedRequest:
    """One request, while its exchange lasts. Nothing can be signed or written before `state`.

    `holds_body` is True if the body is held to be signed; `held` is that body, unless it came with the head.
    `streams_body` is True if the body is neither signed nor extended, so that it is written as it arrives. `is_slow` is
    True if a thread signs, `is_long` if that is because of a long body. `is_written` is False while a held body is left
    to write, `is_due` is True if its next piece is scheduled.
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
        """Hold the body in pieces until it is complete."""
        self.held = held

    def state(self, outgoing: OutgoingRequest, body: list[bytes], size: int, signer: Signer) -> Problem | None:
        """Set what is written and who signs it, or return why it cannot be signed.

        `size` is the length of `body`, which is empty if the body streams.
        """
        self._outgoing, self._body, self._size, self._signer = outgoing, body, size, signer
        self._signature: list[bytes] | None = None
        self.is_long = size > INLINE and self._reads_body
        self.is_slow = self.is_long or signer.slow
        return signer.check(outgoing)

    def signing(self, now: float) -> Signing:
        """Return a function that signs for the time `now`, in seconds since the epoch, with a new nonce."""
        outgoing, signer = self._outgoing, self._signer
        unique, body = self._unique(signer), self._body if self._reads_body else _NOTHING
        return lambda: signer.sign(outgoing, body, now, unique)

    def _unique(self, signer: Signer) -> RandomIds:
        if not signer.uses_random_ids:
            return NO_RANDOM_IDS
        drawn = os.urandom(2 * _RANDOM)
        message = self._message = self._message or drawn[_RANDOM:]
        return RandomIds(message, drawn[:_RANDOM])

    def sign_in_thread(self, worker: Worker) -> asyncio.Future[list[bytes]]:
        """Sign in a thread, which reads the body until it is done, even if the request ends before."""
        signature = worker.in_thread(self.signing(worker.wall()), long=self.is_long)
        self._in_thread = True
        signature.add_done_callback(self._leave_thread)
        return signature

    def _leave_thread(self, signature: asyncio.Future[list[bytes]]) -> None:
        self._in_thread = False
        if self._is_over:
            self.end()
            # Nothing awaits the signature any more: the loop reports an error that is raised here.
            signature.result()
        elif signature.exception() is None:
            self._signature = signature.result()

    def write(self, wall: Callable[[], float]) -> list[bytes]:
        """Return the pieces of the signed head, and of the body if it is short.

        A signature that a thread made is used once. Without one it signs now, by the clock `wall`.
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
        """Note whether the next piece is scheduled."""
        self.is_due = due

    def next_piece(self) -> bytes:
        """Return the next bytes of the body, of which some must be left: one piece, or several short ones joined."""
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
        """Release the body, once no thread reads it."""
        if self._in_thread:
            self._is_over = True
            return
        self._body = self._rest = _NOTHING
        if self.held is not None:
            self.held.end()
            self.held = None
