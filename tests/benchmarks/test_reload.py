"""The rows of reloads, short: a real Sidekey whose config is edited while it is asked."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from benchmarks.arena import Arena
from benchmarks.figures import Outcome
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey, config_file
from benchmarks.processes import MeasureFailed
from benchmarks.reloads import Editor, Reload, reloads_of
from benchmarks.rows.reload import Memory, Reloads
from support.peers import require

RELOADED = '{"timestamp":"-","level":"info","event":"config reloaded","integrations":2,"changed":1,"removed":0,'


@pytest.fixture(autouse=True)
def nginx() -> None:
    """The upstream of all the rows here."""
    require("nginx")


def reaches(outcome: Outcome) -> dict[str, str]:
    """What each line that is held against something must reach; nothing may have failed."""
    assert outcome.failures == {}
    return {line.label: str(line.reach) for line in outcome.lines if line.reach is not None}


def test_reloads_are_measured_alone_and_under_load(arena: Arena) -> None:
    """Requests of each side were all answered, and the integration was changed while some were on their way."""
    outcome = Reloads(Pace(100, 1, connections=4), tenants=3, edits=2, rounds=1).run(arena)
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


def test_memory_is_measured_after_a_few_and_after_many_reloads(arena: Arena) -> None:
    """Their ratio is the figure that counts."""
    outcome = Memory(tenants=3, few=1, many=2).run(arena)
    assert reaches(outcome) == {"RSS after 2 / after 1": "sidekey at most 1.05"}
    assert [line.label for line in outcome.lines][:3] == [
        "RSS MB before any reload",
        "RSS MB after 1",
        "RSS MB after 2",
    ]


def test_each_edit_is_one_reload_of_one_integration(arena: Arena) -> None:
    """The config that is in use afterwards is the edited one, and still whole."""
    with ExitStack() as stack:
        running = arena.start("sidekey", Sidekey(tenants=2), arena.upstreams["http"], stack)
        before = config_file(running.job).read_text()
        editor = Editor(running)
        found = [editor.edit(), editor.edit()]
        after = config_file(running.job).read_text()
    assert [(reload.changed, reload.removed) for reload in found] == [(1, 0), (1, 0)]
    assert after.replace("    description: edited 2 times\n", "") == before


def test_an_edit_under_load_that_fails_fails_the_row(arena: Arena) -> None:
    """Otherwise latencies without any reload would be taken for those with them."""
    with ExitStack() as stack:
        running = arena.start("sidekey", Sidekey(), arena.upstreams["http"], stack)
        editor = Editor(running)
        running.program.stop()
        with pytest.raises(MeasureFailed, match="ended with status"), editor.editing():
            pass


def test_only_whole_lines_of_reloads_are_read() -> None:
    """The log holds other events, what is not of the log, and at its end perhaps half a line."""
    log = f"""Traceback (most recent call last):
{{"timestamp":"-","level":"info","event":"listening"}}
{RELOADED}"seconds":0.25}}
{RELOADED}"seco"""
    assert reloads_of(log) == [Reload(0.25, 1, 0)]
    assert reloads_of(f'{log}nds":0.5}}\n') == [Reload(0.25, 1, 0), Reload(0.5, 1, 0)]
