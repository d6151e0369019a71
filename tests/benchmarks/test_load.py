"""Reading what wrk says, and sending what every peer is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import P50, P99, RATE
from benchmarks.load import Load, Spread, parse
from benchmarks.processes import MeasureFailed
from support.peers import require
from support.ports import free_port

CLEAN = {
    "requests": 9000,
    "microseconds": 3_000_000,
    "p50": 410,
    "p99": 1200,
    "connect": 0,
    "read": 0,
    "write": 0,
    "status": 0,
    "timeout": 0,
}


def output(**changes: int) -> str:
    """What wrk prints at its end."""
    return f"Running 3s test\n  9000 requests in 3.00s\nRESULT {json.dumps(CLEAN | changes)}\n"


def test_rate_and_latencies_are_read_in_seconds_and_milliseconds() -> None:
    """wrk counts in microseconds."""
    assert parse(output()) == (9000, {RATE: 3000.0, P50: 0.41, P99: 1.2})


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_a_single_failed_request_spoils_the_round(kind: str) -> None:
    """A peer that answers anything but 2xx does other work than the others."""
    with pytest.raises(MeasureFailed, match=f"1 x {kind}"):
        parse(output(**{kind: 1}))


def test_a_round_without_a_request_or_without_a_result_is_no_round() -> None:
    """Neither is taken for a rate of zero."""
    with pytest.raises(MeasureFailed, match="no request was answered"):
        parse(output(requests=0))
    with pytest.raises(MeasureFailed, match="no result: unable to connect"):
        parse("unable to connect\n")


def test_wrk_against_nobody_fails_with_its_own_words(tmp_path: Path) -> None:
    """A peer that does not listen is a failure with a reason."""
    require("wrk")
    with pytest.raises(MeasureFailed, match="Connection refused"):
        Load(1, seconds=1, spread=Spread(3, "/i/t", "/hook")).run(f"http://127.0.0.1:{free_port()}/", tmp_path)
