"""The table of answers."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from sidekey import errors
from sidekey.errors import KINDS, Problem


@pytest.mark.parametrize("code", KINDS)
def test_an_answer_takes_the_usual_status_and_error_of_its_kind(code: str) -> None:
    """The first of each is the usual one."""
    problem = Problem(code, "because")
    kind = KINDS[code]
    assert (problem.status, problem.error, problem.title, problem.sent) == (
        kind.statuses[0],
        kind.errors[0],
        kind.title,
        "no",
    )


@pytest.mark.parametrize("code", KINDS)
def test_every_status_is_one_of_http(code: str) -> None:
    """So that the standard phrase exists."""
    assert all(HTTPStatus(status) >= 400 for status in KINDS[code].statuses)


@pytest.mark.parametrize(("status", "error"), [(200, None), (502, "http_request_denied"), (None, "made_up")])
def test_an_answer_outside_its_row_is_a_defect(status: int | None, error: str | None) -> None:
    """Callers rely on the table."""
    with pytest.raises(ValueError, match="target_denied"):
        Problem("target_denied", "because", status=status, error=error)


def test_an_unknown_code_is_a_defect() -> None:
    """There is one table."""
    with pytest.raises(KeyError):
        Problem("made_up", "because")


def test_a_caller_that_left_is_no_answer() -> None:
    """It is an outcome of logs and metrics only."""
    assert errors.CALLER_GONE not in KINDS
