"""Fixtures: the output of a log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.log_pipe import LogPipe


@pytest.fixture
def log_pipe() -> Iterator[LogPipe]:
    """Run a line writer, and return it with its output."""
    pipe = LogPipe()
    yield pipe
    pipe.close()
