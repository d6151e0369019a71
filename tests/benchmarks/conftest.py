"""What tests of whole rows need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from benchmarks.arena import Arena
from benchmarks.machine import Cores
from support.peers import require


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """An arena on one core with files enough for a few connections. It does not wait for memory to be at rest."""
    require("taskset")
    core = min(os.sched_getaffinity(0))
    with Arena(tmp_path_factory.mktemp("arena"), Cores(core, core), 512, settle=0) as found:
        yield found
