"""An address where connecting neither succeeds nor fails."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Self


class Blackhole:
    """`with Blackhole("127.0.0.2") as hole`: further connections to `hole.port` hang.

    Its queue of connections is full, so that Linux drops each SYN that follows, as a firewall would.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self._listener = socket.create_server((host, port), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._queued = socket.create_connection((host, self.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queued.close()
        self._listener.close()
