"""What is published of mutation testing is what was measured, and good enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutation import report
from mutation.__main__ import SIZE, problems
from mutation.mutants import Mutant
from mutation.report import FLOORS, Result, Survivor
from mutation.running import Outcome

PUBLISHED = report.read()

KILLED = Mutant("core/m.py", "f", "a", "b", "")
SURVIVOR = Mutant("core/m.py", "A.f", "x = 1", "x = 2", "")


def test_the_page_is_made_of_the_results() -> None:
    """`make mutants` writes both; after a reason is changed by hand it does so again."""
    assert report.PAGE.read_text("utf-8") == report.page(PUBLISHED)


@pytest.mark.parametrize("folder", PUBLISHED)
def test_the_published_share_is_high_enough(folder: str) -> None:
    """Of a sample of at least 400 mutants."""
    result = PUBLISHED[folder]
    assert result.size == min(SIZE, result.sites) >= 400
    assert result.share >= FLOORS[folder]


@pytest.mark.parametrize("folder", PUBLISHED)
def test_every_published_survivor_has_a_reason(folder: str) -> None:
    """Whoever reads of it learns why no test kills it."""
    assert PUBLISHED[folder].unexplained == []


def test_every_way_of_being_killed_counts_and_every_survivor_stays_in_the_share() -> None:
    """Equivalent mutants are listed, not left out."""
    outcomes = [(KILLED, outcome) for outcome in Outcome if outcome is not Outcome.SURVIVED]
    result = Result.of(10, [*outcomes, (SURVIVOR, Outcome.SURVIVED)], {})
    assert (result.sites, result.size, result.share) == (10, 4, 75)
    assert result.survivors == [Survivor("core/m.py", "A.f", "x = 1", "x = 2")]


def test_a_survivor_keeps_its_reason_in_the_next_run() -> None:
    """As long as it is the same change of the same line; others must be explained again."""
    reason = "no caller can tell"
    known = {"core": Result(1, {}, [Survivor("core/m.py", "A.f", "x = 1", "x = 2", reason)])}
    other = Mutant("core/m.py", "A.f", "x = 1", "x = 0", "")
    result = Result.of(9, [(SURVIVOR, Outcome.SURVIVED), (other, Outcome.SURVIVED)], known)
    assert {survivor.new: survivor.reason for survivor in result.survivors} == {"x = 2": reason, "x = 0": ""}
    assert [survivor.new for survivor in result.unexplained] == ["x = 0"]


def test_a_run_fails_by_an_unexplained_survivor_and_as_a_whole_by_its_share() -> None:
    """A small sample, as CI draws it, says little of the share."""
    explained = Result(9, {"killed": 0, "survived": 1}, [Survivor("core/m.py", "f", "a", "b", "why")])
    assert problems("core", explained, whole=False) == []
    assert problems("core", explained, whole=True) == ["core: at least 90 % of the mutants must be killed"]
    unexplained = Result(9, {"killed": 99, "survived": 1}, [Survivor("core/m.py", "f", "a", "b")])
    (problem,) = problems("core", unexplained, whole=False)
    assert problem.startswith("core/m.py: f: the mutant `b` survives")


def test_results_are_read_back_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the page shows each survivor with its change and its reason."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(report, "PAGE", tmp_path / "mutation.md")
    result = Result(
        1000, dict.fromkeys((outcome.value for outcome in Outcome), 1), [Survivor("core/m.py", "", "a", "b", "why")]
    )
    report.write({"core": result})
    assert report.read() == {"core": result}
    text = report.PAGE.read_text("utf-8")
    assert "| `core/` | 1000 | 4 | 1 | 1 | 1 | 1 | 75.0 % | 90 % |" in text
    assert "`core/m.py`: why\n\n```diff\n- a\n+ b\n```" in text
