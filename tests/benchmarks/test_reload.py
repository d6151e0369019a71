"""The rows of reloads, short: a real Sidekey whose config is edited while it has requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from benchmarks.arena import Arena, Running
from benchmarks.figures import Outcome
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey, config_file
from benchmarks.processes import MeasureFailed
from benchmarks.reloads import Editor, Reload, reloads_of
from benchmarks.rows.reload import Memory, Reloads
from support.peers import require

RELOADED = '{"timestamp":"-","level":"info","event":"config reloaded","integrations":2,"changed":1,"removed":0,'

Edited = tuple[Running, Editor]


@pytest.fixture(scope="module")
def both(arena: Arena) -> Iterator[Edited]:
    """One Sidekey, and the one who edits its config. The last test stops it."""
    require("nginx")
    with ExitStack() as stack:
        running = arena.start("sidekey", Sidekey(tenants=3), arena.upstreams["http"], stack)
        yield running, Editor(running)


def reaches(outcome: Outcome) -> dict[str, str]:
    """The lines that have a reach, with it; nothing may have failed."""
    assert outcome.failures == {}
    return {line.label: str(line.reach) for line in outcome.lines if line.reach is not None}


def test_an_edit_is_one_reload_of_one_integration(both: Edited) -> None:
    """The config in use afterwards is the edited one, and whole."""
    running, editor = both
    before = config_file(running.job).read_text()
    reload = editor.edit()
    assert (reload.changed, reload.removed) == (1, 0)
    assert config_file(running.job).read_text().replace("    description: edited 1 times\n", "") == before


def test_reloads_are_measured_alone_and_under_load(both: Edited) -> None:
    """Requests of each side all had responses, and the integration was changed while some were in flight."""
    outcome = Reloads(Pace(100, 0.2, connections=4), edits=1, rounds=1).measure(*both, settle=0)
    assert reaches(outcome) == {
        "reload s, slowest": "sidekey at most 1",
        "CPU s a reload": "sidekey at most 1",
        "p99.9 ms during a reload": "sidekey at most 20",
        "failed requests": "sidekey at most 0",
    }
    values = {line.label: line.values["sidekey"] for line in outcome.lines}
    assert values["failed requests"] == 0
    assert values["reloads under load"] >= 1
    assert values["p99.9 ms during a reload"] >= values["p99.9 ms, with reloads"] > 0
    assert set(outcome.rounds) == {"sidekey, alone", "sidekey, without reloads", "sidekey, with reloads"}


def test_memory_is_measured_after_a_few_and_after_many_reloads(both: Edited) -> None:
    """Their ratio is the figure that counts."""
    outcome = Memory(few=1, many=2).measure(*both, settle=0)
    assert reaches(outcome) == {"RSS after 2 / after 1": "sidekey at most 1.05"}
    assert [line.label for line in outcome.lines][:3] == [
        "RSS MB before any reload",
        "RSS MB after 1",
        "RSS MB after 2",
    ]


def test_an_edit_that_fails_fails_the_row(both: Edited) -> None:
    """Otherwise latencies without any reload would be reported as those with reloads."""
    running, editor = both
    running.program.stop()
    with pytest.raises(MeasureFailed, match="ended with status"):
        editor.edit()


def test_only_complete_lines_of_reloads_are_read() -> None:
    """The log holds other events, lines that are not JSON, and at its end perhaps half a line."""
    log = f"""Traceback (most recent call last):
{{"timestamp":"-","level":"info","event":"listening"}}
{RELOADED}"seconds":0.25}}
{RELOADED}"seco"""
    assert reloads_of(log) == [Reload(0.25, 1, 0)]
    assert reloads_of(f'{log}nds":0.5}}\n') == [Reload(0.25, 1, 0), Reload(0.5, 1, 0)]
