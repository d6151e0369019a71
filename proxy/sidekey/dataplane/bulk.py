"""Long bodies are received in long reads: fewer calls into the kernel and fewer wake-ups of who sends.

A loop that makes the bytes of a read itself reads at most 256 KiB at a time; into a buffer of ours it reads what fits.
Where that was all, uvloop reads again at once, up to 32 times: who sends fast enough would hold up everybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sidekey.dataplane.buffers import BULK
from sidekey.dataplane.worker import Worker

IN_A_ROW: Final = 2
"""Full reads of one connection after which others have their turn."""


class BulkReader(asyncio.BufferedProtocol):
    """Stands before a protocol at its transport, while a long body comes: reads are longer, all else is the same.

    The buffer is the worker's, for all of its connections: a loop calls get_buffer, receives and calls buffer_updated
    in one go. What was received is copied before anything else can be read, so no connection sees what is another's.
    `rest` stops the reading until the loop's next turn; `_full` counts the reads that filled the buffer, one behind the
    other.
    """

    __slots__ = ("_full", "_protocol", "_rest", "_worker")

    def __init__(self, worker: Worker, protocol: asyncio.Protocol, rest: Callable[[], None]) -> None:
        self._worker = worker
        self._protocol = protocol
        self._rest = rest
        self._full = 0

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's guess is not asked for
        """Where the next read goes."""
        return self._worker.bulk_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes were received."""
        self._protocol.data_received(bytes(self._worker.bulk_buffer()[:nbytes]))
        self._full = self._full + 1 if nbytes == BULK else 0
        if self._full == IN_A_ROW:
            self._full = 0
            self._rest()

    def eof_received(self) -> bool | None:
        """The other end sends no more."""
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """The other end takes nothing for now."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """It takes more."""
        self._protocol.resume_writing()
