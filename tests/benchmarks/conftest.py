"""What tests of whole rows need."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.arena import Arena
from benchmarks.machine import Cores
from support.peers import require


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """An arena on one core with files enough for a few connections."""
    require("taskset")
    core = min(os.sched_getaffinity(0))
    with Arena(tmp_path, Cores(core, core), 512) as found:
        yield found
