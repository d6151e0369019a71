"""The rows of tokens, short: a real Sidekey, a real token endpoint, and an upstream that judges the tokens."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.figures import Outcome
from benchmarks.pace import Pace
from benchmarks.rows.oauth2 import Cold, Life, Storm


def figures(outcome: Outcome) -> dict[str, float]:
    """The values by label; nothing may have failed."""
    assert outcome.failures == {}
    return {line.label: line.values["sidekey"] for line in outcome.lines}


def verdicts(outcome: Outcome) -> dict[str, str]:
    """What the counted lines say of their reaches."""
    return {line.label: line.reach.verdict(line.values) for line in outcome.lines if line.reach is not None}


def test_requests_on_a_cold_cache_share_one_token_request(arena: Arena) -> None:
    """All of them were in flight before the endpoint answered."""
    outcome = Cold(requests=20, rounds=2).run(arena)
    assert figures(outcome)["token requests"] == 1
    assert verdicts(outcome) == {"token requests": "ok"}
    assert [len(samples) for samples in outcome.rounds.values()] == [2]


def test_tokens_of_a_short_life_are_asked_for_again_while_they_are_used(arena: Arena) -> None:
    """The load is longer than a life; whether the upstream found any expired is the row's figure."""
    outcome = Life(Pace(100, 1.5, connections=4), rounds=1, short=1).run(arena)
    found = figures(outcome)
    assert found["token requests"] >= 3
    assert {"p99, short / long life", "expired tokens at the upstream"} == set(verdicts(outcome))
    assert list(outcome.rounds) == ["sidekey, long life", "sidekey, short life"]


def test_a_storm_of_refusals_forces_one_renewal(arena: Arena) -> None:
    """The first token is asked for in peace; what comes after it, the refusals force."""
    outcome = Storm(Pace(200, 0.3, connections=4)).run(arena)
    assert figures(outcome)["token requests forced"] == 1
    assert verdicts(outcome) == {"forced, most in any 60 s": "ok"}
