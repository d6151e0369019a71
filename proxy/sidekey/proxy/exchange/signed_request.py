"""A request that Sidekey signs each time it writes it, and the body that it holds for the signature."""

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
"""Maximum size of a body that the event loop hashes. A thread hashes a longer one, so that the loop keeps running."""

_PIECE: Final = 64 << 10
"""Maximum size of the pieces in which a body is written, if it arrived in smaller ones."""
_RANDOM: Final = 16
_NOTHING: Final[list[bytes]] = []
"""An empty body. Do not change it."""

Signing = Callable[[], list[bytes]]
"""Returns the header lines of a signature. It can run in a thread, because it only reads its own arguments."""


class SignedRequest:
    """The signed request of one exchange.

    The order of calls: `hold` if the body must wait, `set_content`, then `sign_in_thread` if `is_slow`, `write`, and
    `next_piece` until `is_written`. To send the request again, begin with `set_content`. `end` releases the body.

    The signature covers the body if `reads_body`; Sidekey adds fields to the body if `fills_body`. `holds_body` is True
    if the body is held unchanged until it is signed, and `held` is that body unless it came with the head.
    `streams_body` is True if the body is neither signed nor extended, so that it is written as it arrives. `is_slow` is
    True if a thread must sign, `is_long` if the reason is a long body. `is_written` is False while pieces of the body
    are left to write, and `is_scheduled` is True if the event loop will write the next one.
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
        "is_long",
        "is_scheduled",
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
        self.is_scheduled = self._in_thread = self._is_over = False
        self._message = b""
        self._rest = _NOTHING

    def hold(self, held: BufferedBody) -> None:
        """Set the object that holds the body until it is complete."""
        self.held = held

    def set_content(self, outgoing: OutgoingRequest, body: list[bytes], size: int, signer: Signer) -> Problem | None:
        """Set the request and its signer. Return the problem if the request cannot be signed.

        `size` is the length of `body`, which is empty if the body streams.
        """
        self._outgoing, self._body, self._size, self._signer = outgoing, body, size, signer
        self._signature: list[bytes] | None = None
        self.is_long = size > INLINE and self._reads_body
        self.is_slow = self.is_long or signer.slow
        return signer.check(outgoing)

    def signing(self, now: float) -> Signing:
        """Return a function that signs for the time `now` (seconds since the epoch) with new random IDs."""
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
        """Sign in a thread. It reads the body until it is done, so an earlier `end` releases the body only then."""
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

        Use the signature of the thread, once, or sign now by the clock `wall`.
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

    def set_scheduled(self, is_scheduled: bool) -> None:
        """Set `is_scheduled`."""
        self.is_scheduled = is_scheduled

    def next_piece(self) -> bytes:
        """Return the next bytes of the body, one piece or several short ones. Do not call it once `is_written`."""
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
        """Release the body now, or once the thread that reads it is done."""
        if self._in_thread:
            self._is_over = True
            return
        self._body = self._rest = _NOTHING
        if self.held is not None:
            self.held.end()
            self.held = None
