"""The rows of tokens, short: a real Sidekey, a real token endpoint, and an upstream that checks the tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.arena import Arena, Running
from benchmarks.figures import Outcome, Sample
from benchmarks.issuer import Issuer
from benchmarks.pace import Pace
from benchmarks.processes import MeasureFailed
from benchmarks.rows.oauth2 import CALLS, CPU_SECONDS, OPENED, Calls, Cold, Life, Storm, call_lines, started

COLD = Cold(requests=20, rounds=2)
LIFE = Life(Pace(50, 0.3, connections=2), rounds=1, short=1)
CALLING = Calls(integrations=30, seconds=0.1, connections=2)
STORM = Storm(Pace(200, 0.2, connections=2))

Started = tuple[Issuer, Running]


@pytest.fixture(scope="module")
def both(arena: Arena) -> Iterator[Started]:
    """One endpoint and one Sidekey with the clients of all rows."""
    clients = COLD.clients | LIFE.clients | CALLING.clients | STORM.clients
    with started(arena, "oauth2", clients) as found:
        yield found


def figures(outcome: Outcome) -> dict[str, float]:
    """The values by label; nothing may have failed."""
    assert outcome.failures == {}
    return {line.label: line.values["sidekey"] for line in outcome.lines}


def verdicts(outcome: Outcome) -> dict[str, str]:
    """The verdicts of the lines that have a reach."""
    return {line.label: line.reach.verdict(line.values) for line in outcome.lines if line.reach is not None}


def test_requests_without_a_token_share_one_token_request(both: Started) -> None:
    """All of them were in flight before the endpoint responded."""
    outcome = COLD.measure(*both)
    assert figures(outcome)["token requests"] == 1
    assert verdicts(outcome) == {"token requests": "ok"}
    assert [len(samples) for samples in outcome.rounds.values()] == [2]


def test_a_round_counts_the_calls_of_its_integrations(both: Started) -> None:
    """Each of the six that have a request in that time has one call, and none while its token is valid."""
    first, second = (CALLING.round(*both, "long") for _ in range(2))
    assert first[CALLS] == 6
    # A connection that an earlier round left may serve.
    assert 0 <= first[OPENED] <= 6
    assert (second[CALLS], second[OPENED]) == (0, 0)
    assert first[CPU_SECONDS] > 0


def test_tokens_of_a_short_life_are_renewed_while_they_are_used(both: Started) -> None:
    """The load is longer than half a life; whether expired tokens came to the upstream is the row's figure."""
    outcome = LIFE.measure(*both)
    assert figures(outcome)["token requests"] >= 2
    assert set(verdicts(outcome)) == {"p99, short / long life", "expired tokens at the upstream"}
    assert list(outcome.rounds) == ["sidekey, long life", "sidekey, short life"]


def test_the_cost_of_a_call_is_what_rounds_with_more_calls_cost_more() -> None:
    """The cost of the requests is in both rounds; connections are counted over all of them."""
    long: list[Sample] = [{CALLS: 10, OPENED: 1, CPU_SECONDS: 0.5}, {CALLS: 0, OPENED: 0, CPU_SECONDS: 0.4}]
    short: list[Sample] = [{CALLS: 110, OPENED: 10, CPU_SECONDS: 0.6}, {CALLS: 100, OPENED: 11, CPU_SECONDS: 0.7}]
    values = {line.label: round(line.values["sidekey"], 3) for line in call_lines(long, short)}
    assert values == {"CPU us a token call": 2000, "new connections a token call": 0.1, "token calls": 220}
    with pytest.raises(MeasureFailed, match="not renewed more often"):
        call_lines(short, short)


def test_refusals_force_one_renewal(both: Started) -> None:
    """The first token comes before any refusal; the refusals force the next."""
    outcome = STORM.measure(*both)
    assert figures(outcome)["token requests forced"] == 1
    assert verdicts(outcome) == {"forced, most in any 60 s": "ok"}
