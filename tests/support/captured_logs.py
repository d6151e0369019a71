"""What is logged by Python's own `logging`, as libraries do; pytest's plugin for it costs every test something."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Logged(logging.Handler):
    """Keeps all records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        """All of it, with tracebacks."""
        return "\n".join(map(self.format, self.records))


@contextmanager
def logged(level: int = logging.WARNING) -> Iterator[Logged]:
    """Keep what is logged from this level on."""
    handler, root = Logged(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield handler
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
