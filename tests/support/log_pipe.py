"""A line writer whose output is a pipe."""

from __future__ import annotations

import os

from sidekey.observe.writer import LineWriter


class LogPipe:
    """A line writer and its output."""

    def __init__(self) -> None:
        self.end, fd = os.pipe()
        self.writer = LineWriter(fd)

    def line(self) -> bytes:
        """Read the lines so far, usually one."""
        return os.read(self.end, 1 << 20)

    def close(self) -> None:
        self.writer.close()
        os.close(self.end)
