"""The tables of phases. `tests/proxy/exchange/test_exchange_phases.py` has the conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidekey.proxy import states

TABLES = {
    "request": (states.AFTER_REQUEST, states.REQUEST_NAMES, states.NEW, {states.OVER}),
    "response": (states.AFTER_RESPONSE, states.RESPONSE_NAMES, states.NONE, {states.COMPLETE, states.CUT}),
    "tunnel": (states.AFTER_TUNNEL, states.TUNNEL_NAMES, states.NEGOTIATING, {states.ENDED}),
}
every_table = pytest.mark.parametrize(("table", "names", "first", "last"), TABLES.values(), ids=TABLES)


@every_table
def test_each_phase_is_a_separate_bit(
    table: Mapping[int, int], names: Mapping[int, str], first: int, last: set[int]
) -> None:
    assert list(table) == list(names) == [1 << number for number in range(len(names))]
    assert all(getattr(states, name) == phase for phase, name in names.items())
    assert all(not mask & ~sum(names) for mask in table.values())


@every_table
def test_every_phase_is_reachable_and_can_end(
    table: Mapping[int, int], names: Mapping[int, str], first: int, last: set[int]
) -> None:
    """Nothing returns to the first phase, and the last phase is final."""
    reached, waiting = {first}, [first]
    while waiting:
        mask = table[waiting.pop()]
        result = {phase for phase in table if mask & phase} - reached
        reached |= result
        waiting += result
    assert reached == set(table)
    for phase, mask in table.items():
        assert (mask == 0) == (phase in last)
        assert phase in last or mask & max(last)
    assert not any(mask & states.NEW for mask in states.AFTER_REQUEST.values())


PAGE = Path(__file__).parents[2] / "docs" / "data-plane.md"


def documented(names: Mapping[int, str]) -> dict[int, int]:
    """Return a table of docs/data-plane.md: for each phase, the phases that may follow it."""
    phase_of = {name: phase for phase, name in names.items()}
    result = {}
    for name, followers in re.findall(r"^\| `(\w+)` \| [^|]+ \| ?([^|]*) ?\|$", PAGE.read_text("utf-8"), re.M):
        if name not in phase_of:
            continue
        mask = phase_of[name] if "itself" in followers else 0
        for first, last in re.findall(r"`(\w+)`(?: to `(\w+)`)?", followers):
            # The bits from one phase to another.
            mask |= (phase_of[last or first] << 1) - phase_of[first]
        result[phase_of[name]] = mask
    return result


@every_table
def test_documented_tables_match(
    table: Mapping[int, int], names: Mapping[int, str], first: int, last: set[int]
) -> None:
    assert {names[phase]: bin(mask) for phase, mask in documented(names).items()} == {
        names[phase]: bin(mask) for phase, mask in table.items()
    }


def test_a_defect_names_both_phases() -> None:
    defect = states.illegal(states.REQUEST_NAMES, states.OVER, states.SENT)
    assert isinstance(defect, states.IllegalTransition)
    assert str(defect) == "OVER cannot be followed by SENT"
