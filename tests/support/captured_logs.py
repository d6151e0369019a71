"""Capture Python's `logging`, as libraries use it. pytest's plugin would slow down every test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class LogRecorder(logging.Handler):
    """Keeps all records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def text(self) -> str:
        """All records, with tracebacks."""
        return "\n".join(map(self.format, self.records))


@contextmanager
def capture_logging(level: int = logging.WARNING) -> Iterator[LogRecorder]:
    """Capture records from this level on."""
    handler, root = LogRecorder(), logging.getLogger()
    level_before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield handler
    finally:
        root.setLevel(level_before)
        root.removeHandler(handler)
