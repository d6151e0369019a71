"""observe/process_figures.py: the families of the process, as every exporter has them."""

from __future__ import annotations

import math
import resource
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sidekey.observe.process_figures import render

STAT = "7 (a) b) S " + " ".join(str(number) for number in range(1, 50))
"""A line of which each field after the state is its own number; the program's name holds a parenthesis."""


def values(page: bytes) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A file system of processes with this one, whose three descriptors are open."""
    (tmp_path / "self" / "fd").mkdir(parents=True)
    (tmp_path / "self" / "stat").write_text(STAT, encoding="ascii")
    (tmp_path / "stat").write_text("cpu 1 2\nbtime 1700000000\nprocesses 3\n", encoding="ascii")
    for number in range(3):
        (tmp_path / "self" / "fd" / str(number)).touch()
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_families_are_those_of_the_usual_process_collector() -> None:
    """Names, types and texts, and what does not change between two looks."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    usual, ours = generate_latest(registry), render()

    def comments(page: bytes) -> list[bytes]:
        return [line for line in page.splitlines() if line.startswith(b"#")]

    assert comments(ours) == comments(usual)
    theirs, found = values(usual), values(ours)
    assert found.keys() == theirs.keys()
    for name in ("process_start_time_seconds", "process_max_fds"):
        assert found[name] == theirs[name]
    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert 0.5 < found[name] / theirs[name] < 2


def test_each_figure_is_read_from_its_field(proc: Path) -> None:
    """Time in ticks, resident memory in pages; a parenthesis in the program's name moves no field."""
    found = values(render(proc))
    assert found["process_virtual_memory_bytes"] == 20
    assert found["process_resident_memory_bytes"] == 21 * resource.getpagesize()
    assert found["process_start_time_seconds"] == 1_700_000_000 + 0.19
    assert found["process_cpu_seconds_total"] == 0.23
    assert found["process_open_fds"] == 3


def test_a_clock_that_is_set_does_not_move_the_start(proc: Path) -> None:
    """Alerts take another start time for a restart."""
    first = values(render(proc))["process_start_time_seconds"]
    (proc / "stat").write_text("btime 1700000500\n", encoding="ascii")
    assert values(render(proc))["process_start_time_seconds"] == first


def test_no_limit_of_descriptors_is_infinity(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ratio to it is then zero, never negative."""
    endless = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: endless)
    assert values(render(proc))["process_max_fds"] == math.inf


def test_where_descriptors_cannot_be_listed_only_their_number_is_missing(proc: Path) -> None:
    """Alerts need the rest, above all the start time."""
    whole = values(render(proc))
    for number in range(3):
        (proc / "self" / "fd" / str(number)).unlink()
    (proc / "self" / "fd").rmdir()
    del whole["process_open_fds"]
    assert values(render(proc)) == whole


def test_without_proc_there_is_nothing(tmp_path: Path) -> None:
    """So it is on other systems than Linux."""
    assert render(tmp_path) == b""
