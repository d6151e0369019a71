"""A request that Sidekey signs each time it writes it, and the body that it buffers for the signature."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from sidekey.credentials.signing import NO_RANDOM_IDS, OutgoingRequest, RandomIds, Signer
from sidekey.errors import Problem
from sidekey.proxy.limits import BufferedBody
from sidekey.proxy.worker import Worker

MAX_INLINE: Final = 256 << 10
"""Maximum size of a body that is signed on the event loop. A thread signs a longer one, so that the loop keeps running.
"""

_MAX_PIECE: Final = 64 << 10
"""Size up to which short pieces of a body are joined before they are written."""
_RANDOM_ID_SIZE: Final = 16
_NO_BODY: Final[list[bytes]] = []
"""An empty body. Do not change it."""

BoundSignature = Callable[[], list[bytes]]
"""Signs and returns the header lines of the signature. It can run in a thread, because all its arguments are bound."""


class SignedRequest:
    """The signed request of one exchange.

    The order of calls: `set_buffer` if the body must wait, `set_content`, then `sign_in_thread` and `leave_thread` if
    `is_slow`, `write`, and `next_piece` until `is_written`. To send the request again, begin with `set_content`. `end`
    releases the body.

    The signature covers the body if `covers_body`; Sidekey adds fields to the body if `extends_body`. If the body is
    signed and not extended, `buffers_body` is True, and `buffer` holds the body unless it came with the head. If it is
    neither, `streams_body` is True, and the body is written as it arrives. `is_slow` is True if a thread must sign,
    `is_long` if the reason is a long body. `is_written` is False while pieces of the body are left to write, and
    `is_scheduled` is True if the event loop will write the next one.
    """

    __slots__ = (
        "_body",
        "_covers_body",
        "_in_thread",
        "_is_over",
        "_message_id",
        "_outgoing",
        "_rest",
        "_signature",
        "_signer",
        "_size",
        "buffer",
        "buffers_body",
        "is_long",
        "is_scheduled",
        "is_slow",
        "is_written",
        "streams_body",
    )

    def __init__(self, covers_body: bool, extends_body: bool) -> None:
        self._covers_body: Final = covers_body
        self.buffers_body: Final = covers_body and not extends_body
        self.streams_body: Final = not (covers_body or extends_body)
        self.buffer: BufferedBody | None = None
        self.is_written = True
        self.is_scheduled = self._is_over = False
        self._in_thread: asyncio.Future[list[bytes]] | None = None
        self._message_id = b""
        self._rest = _NO_BODY

    def set_buffer(self, buffer: BufferedBody) -> None:
        """Set the buffer that collects the body until it is complete."""
        self.buffer = buffer

    def set_content(self, outgoing: OutgoingRequest, body: list[bytes], size: int, signer: Signer) -> Problem | None:
        """Set the request, its body and its signer. Return the problem if the request cannot be signed.

        `size` is the length of `body`, which is empty if `streams_body`.
        """
        self._outgoing, self._body, self._size, self._signer = outgoing, body, size, signer
        self._signature: list[bytes] | None = None
        self.is_long = size > MAX_INLINE and self._covers_body
        self.is_slow = self.is_long or signer.slow
        return signer.check(outgoing)

    def bind_signature(self, now: float) -> BoundSignature:
        """Return a function that signs with new random IDs for the time `now`, in seconds since the epoch."""
        outgoing, signer = self._outgoing, self._signer
        random_ids, body = self._draw_random_ids(signer), self._body if self._covers_body else _NO_BODY
        return lambda: signer.sign(outgoing, body, now, random_ids)

    def _draw_random_ids(self, signer: Signer) -> RandomIds:
        if not signer.uses_random_ids:
            return NO_RANDOM_IDS
        drawn = os.urandom(2 * _RANDOM_ID_SIZE)
        message_id = self._message_id = self._message_id or drawn[_RANDOM_ID_SIZE:]
        return RandomIds(message_id, drawn[:_RANDOM_ID_SIZE])

    def sign_in_thread(self, worker: Worker) -> asyncio.Future[list[bytes]]:
        """Sign in a thread. It reads the body until it is done, so an earlier `end` releases the body only then."""
        signature = worker.run_in_thread(self.bind_signature(worker.wall()), long=self.is_long)
        self._in_thread = signature
        signature.add_done_callback(self.leave_thread)
        return signature

    def leave_thread(self, signature: asyncio.Future[list[bytes]]) -> None:
        """Store the signature of a thread that is done, or report its error after the exchange is over.

        The loop calls it too, but since Python 3.15 perhaps only after the exchange continues, if the thread is fast.
        """
        if self._in_thread is not signature:
            return
        self._in_thread = None
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
            signature = signer.sign(
                outgoing, body if self._covers_body else _NO_BODY, wall(), self._draw_random_ids(signer)
            )
        self._body, self._signature = _NO_BODY, None
        pieces = [outgoing.method, b" ", outgoing.target, b" HTTP/1.1", *outgoing.lines, *signature, b"\r\n\r\n"]
        if self._size <= _MAX_PIECE:
            pieces += body
            if self.buffer is not None:
                self.buffer.release(self._size)
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
        while rest and size + len(rest[-1]) <= _MAX_PIECE:
            piece = rest.pop()
            pieces.append(piece)
            size += len(piece)
        if self.buffer is not None:
            self.buffer.release(size)
        self.is_written = not rest
        return piece if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """Release the body now, or once the thread that reads it is done."""
        if self._in_thread is not None:
            self._is_over = True
            return
        self._body = self._rest = _NO_BODY
        if self.buffer is not None:
            self.buffer.end()
            self.buffer = None
