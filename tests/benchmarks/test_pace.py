"""The load at a constant rate: every request that falls due is sent, answered and counted."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.bulk import BulkUpstream
from benchmarks.pace import Pace, Paced, percentile
from benchmarks.processes import MeasureFailed


@pytest.mark.parametrize(
    ("share", "value"),
    [(0, 1.0), (0.5, 50.0), (0.501, 51.0), (0.99, 99.0), (0.999, 100.0), (1, 100.0)],
)
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    """The nearest rank: nothing is made up between two values."""
    assert percentile([float(number) for number in range(1, 101)], share) == value


def test_a_single_value_is_every_percentile() -> None:
    """Few answers still have a p99."""
    assert Paced([3.0], Counter()).percentile(0.99) == percentile([3.0], 0.5) == 3.0


@pytest.mark.parametrize("rate", [1_000, 1_000_000], ids=["in turn", "faster than it is answered"])
def test_every_request_that_was_due_is_answered(tmp_path: Path, rate: int) -> None:
    """Those that fall due on a busy connection follow, so no request is left out."""
    with BulkUpstream(tmp_path) as bulk:
        paced = Pace(rate, 50 / rate, connections=3).run(bulk.upstream.port, "/api/hook")
    assert paced.statuses == {"200": 50}
    assert len(paced.milliseconds) == 50
    assert paced.milliseconds == sorted(paced.milliseconds)
    assert paced.milliseconds[0] > 0


def test_answers_of_another_status_are_a_failure_that_counts_them() -> None:
    """A figure of refusals would be no figure."""
    paced = Paced([], Counter({"200": 5, "401": 1, "502": 2}))
    paced.expect_only("200", "401", "502")
    with pytest.raises(MeasureFailed, match=r"other than 200 and 401: \{'502': 2\}"):
        paced.expect_only("200", "401")


def test_a_kept_connection_that_closes_is_a_failure() -> None:
    """It would leave requests unanswered."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def leave() -> None:
            connection, _ = server.accept()
            connection.close()

        leaving = threading.Thread(target=leave)
        leaving.start()
        with pytest.raises((MeasureFailed, ConnectionError)):
            Pace(10, 0.1, connections=1).run(server.getsockname()[1], "/")
        leaving.join()
