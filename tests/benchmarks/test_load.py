"""Reading what wrk reports, and sending the requests that every peer gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import P50, P99, RATE
from benchmarks.load import Spread, Wrk, parse
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
def test_a_single_failed_request_fails_the_round(kind: str) -> None:
    """A peer that responds anything but 2xx does not do the work of the others."""
    with pytest.raises(MeasureFailed, match=f"1 x {kind}"):
        parse(output(**{kind: 1}))


def test_a_round_without_a_request_or_without_a_result_is_a_failure() -> None:
    """Neither is reported as a rate of zero."""
    with pytest.raises(MeasureFailed, match="no request had a response"):
        parse(output(requests=0))
    with pytest.raises(MeasureFailed, match="no result: unable to connect"):
        parse("unable to connect\n")


def test_wrk_fails_with_its_own_message_where_no_peer_listens(tmp_path: Path) -> None:
    """A peer that does not listen is a failure with a reason."""
    require("wrk")
    with pytest.raises(MeasureFailed, match="Connection refused"):
        Wrk(1, seconds=1, spread=Spread(3, "/i/t", "/hook")).measure(free_port(), "/", tmp_path)
