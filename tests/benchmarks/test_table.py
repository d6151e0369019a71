"""The printed table."""

from __future__ import annotations

from benchmarks.figures import CPU, RATE, Line, Outcome, at_least
from benchmarks.table import align, render

COLUMNS = ("sidekey", "envoy", "nginx")


def cells(table: str) -> list[list[str]]:
    """The cells of the table's body."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_a_line_shows_each_peer_and_whether_the_reach_was_reached() -> None:
    """A row's name is on its first line; a line without a reach leaves those cells empty."""
    lines = (
        Line("requests/s", RATE, {"sidekey": 50_000.4, "envoy": 30_000, "nginx": 70_000}, at_least(1.5, over="envoy")),
        Line("CPU us a request", CPU, {"sidekey": 20.04, "envoy": 31, "nginx": 13.5}),
    )
    assert cells(render({"http32": Outcome(lines)}, COLUMNS, frozenset())) == [
        ["http32", "requests/s", "50,000", "30,000", "70,000", "sidekey / envoy at least 1.5", "1.67", "ok"],
        ["", "CPU us a request", "20.0", "31.0", "13.5", "", "", ""],
    ]


def test_an_absent_peer_a_failed_one_and_one_that_is_not_in_the_row_look_different() -> None:
    """Only a peer that is not installed is absent."""
    outcome = Outcome((Line("requests/s", RATE, {}),), {"envoy, all": "it ended"})
    body = cells(render({"accesslog": outcome}, COLUMNS, frozenset({"sidekey"})))
    assert body == [["accesslog", "requests/s", "absent", "failed", "", "", "", ""]]


def test_the_source_of_the_table_is_aligned() -> None:
    """Text is aligned to the left, numbers to the right, and all lines are equally long."""
    assert align(["row", "envoy"], [["a", "1"], ["long name", "123,456"]]).splitlines() == [
        "| row       |   envoy |",
        "|-----------|--------:|",
        "| a         |       1 |",
        "| long name | 123,456 |",
    ]
