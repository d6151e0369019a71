"""benchmarks/signing.py: the exchanges that are timed are signed."""

from __future__ import annotations

import pytest

from benchmarks import signing


@pytest.mark.parametrize("case", signing.CASES)
async def test_every_exchange_is_signed_and_goes_to_the_upstream_and_back(case: str) -> None:
    """`warm` looks at the first two; raises where one is not as it should be."""
    signing.warm(case)()


async def test_the_figures_are_of_one_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names in the row."""
    monkeypatch.setattr(signing, "ROUNDS", 1)
    monkeypatch.setattr(signing, "EXCHANGES", 2)
    assert set(signing.run()) == {"github_more_us", "webhook_more_us", "ed25519_more_us", "aws_more_us"}
