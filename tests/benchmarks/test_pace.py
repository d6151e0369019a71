"""The load at a constant rate: every request that falls due is sent, has its response and is counted."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import wire
from benchmarks.bulk import BulkUpstream, discard
from benchmarks.figures import RATE
from benchmarks.load import Spread
from benchmarks.pace import Pace, Paced, percentile
from benchmarks.processes import MeasureFailed


@pytest.mark.parametrize(
    ("share", "value"),
    [(0, 1.0), (0.5, 50.0), (0.501, 51.0), (0.99, 99.0), (0.999, 100.0), (1, 100.0)],
)
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    """The nearest rank: there is no interpolation."""
    assert percentile([float(number) for number in range(1, 101)], share) == value


def test_a_single_value_is_every_percentile() -> None:
    """Few responses still have a p99."""
    assert Paced([3.0], Counter(), 1.0).percentile(0.99) == percentile([3.0], 0.5) == 3.0


@pytest.mark.parametrize("rate", [1_000, 1_000_000], ids=["in turn", "faster than the responses"])
def test_every_request_that_was_due_gets_its_response(tmp_path: Path, rate: int) -> None:
    """Those that fall due on a busy connection follow, so that no request is left out."""
    with BulkUpstream(tmp_path) as bulk:
        paced = Pace(rate, 50 / rate, connections=3).run(bulk.upstream.port, "/api/hook")
    assert paced.statuses == {"200": 50}
    assert len(paced.milliseconds) == 50
    assert paced.milliseconds == sorted(paced.milliseconds)
    assert paced.milliseconds[0] > 0
    assert paced.seconds >= 49 / rate


def test_requests_are_spread_over_the_paths_in_turn() -> None:
    """Each integration of a row has as many requests as any other."""
    paths: list[str] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            for _ in range(5):
                head, begun = wire.receive_head(connection)
                discard(connection, head.length - len(begun))
                paths.append(head.start[1])
                connection.sendall(wire.response())

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve)
        serving.start()
        Pace(1_000, 0.005, connections=1, spread=Spread(3, "/i/t", "/hook")).run(server.getsockname()[1], "")
        serving.join()
    assert paths == ["/i/t0/hook", "/i/t1/hook", "/i/t2/hook", "/i/t0/hook", "/i/t1/hook"]


def test_a_load_that_does_not_keep_its_pace_is_a_failure(tmp_path: Path) -> None:
    """Processor time at a lower pace is not comparable."""
    with BulkUpstream(tmp_path) as bulk:
        # The second is due in the middle: on a slow machine its response may take as long as the pace leaves.
        count, seen = Pace(2, 1, connections=2).measure(bulk.upstream.port, "/api/hook", tmp_path)
        assert count == 2
        assert seen[RATE] >= 1.9
        with pytest.raises(MeasureFailed, match=r"of 1,000,000 requests/s: the proxy or the load did not keep pace"):
            Pace(1_000_000, 20 / 1_000_000, connections=2).measure(bulk.upstream.port, "/api/hook", tmp_path)


def test_responses_of_another_status_are_a_failure_that_counts_them() -> None:
    """Latencies of refused requests would be misleading."""
    paced = Paced([], Counter({"200": 5, "401": 1, "502": 2}), 1.0)
    paced.expect_only("200", "401", "502")
    with pytest.raises(MeasureFailed, match=r"other than 200 and 401: \{'502': 2\}"):
        paced.expect_only("200", "401")


def test_a_kept_connection_that_closes_is_a_failure() -> None:
    """Requests would have no response."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def leave() -> None:
            connection, _ = server.accept()
            connection.close()

        leaving = threading.Thread(target=leave)
        leaving.start()
        with pytest.raises((MeasureFailed, ConnectionError)):
            Pace(10, 0.1, connections=1).run(server.getsockname()[1], "/")
        leaving.join()
