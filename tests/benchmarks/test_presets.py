"""benchmarks/presets.py: what is timed arrives, and is what it is said to be."""

from __future__ import annotations

import json

import pytest

from benchmarks import presets


@pytest.mark.parametrize("which", presets.EXCHANGED)
async def test_every_exchange_goes_to_the_upstream_and_back(which: str) -> None:
    """`warm` looks at the first two; raises where one is not as it should be."""
    presets.warm(which)()


def test_the_template_has_ten_parameters() -> None:
    assert len(json.loads(presets.SENT)) == 10


async def test_the_figures_are_of_one_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names in the row."""
    monkeypatch.setattr(presets, "ROUNDS", 1)
    monkeypatch.setattr(presets, "EXCHANGES", 2)
    found = presets.run()
    assert set(found) == {"payload_us", "filled_us", "payload_share", "filled_more_us"}
    assert found["payload_us"] > 0
