"""The table of responses."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from http import HTTPStatus

import pytest

from sidekey import errors
from sidekey.errors import KINDS, Problem, ProblemError


@pytest.mark.parametrize("code", KINDS)
def test_a_response_takes_the_usual_status_and_error_of_its_kind(code: str) -> None:
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


@pytest.mark.parametrize(("status", "error"), [(200, ""), (502, "http_request_denied"), (0, "made_up")])
def test_a_response_outside_its_row_is_a_defect(status: int, error: str) -> None:
    """Callers rely on the table."""
    with pytest.raises(ValueError, match="target_denied"):
        Problem("target_denied", "because", status=status, error=error)


def test_an_unknown_code_is_a_defect() -> None:
    """There is one table."""
    with pytest.raises(KeyError):
        Problem("made_up", "because")


def test_a_problem_is_a_frozen_value() -> None:
    """Whoever hears of it may keep it: nobody can change it behind the others' back."""
    problem = Problem("overloaded", "because", headers=(("Retry-After", "1"),))
    with pytest.raises(FrozenInstanceError):
        problem.sent = "maybe"  # type: ignore[misc]
    told = problem.maybe_sent()
    assert (told.sent, problem.sent) == ("maybe", "no")
    assert (told.code, told.detail, told.status, told.headers) == ("overloaded", "because", 503, problem.headers)


def test_an_exception_carries_a_problem_unchanged() -> None:
    """Where it cannot be returned."""
    problem = Problem("target_denied", "because")
    assert ProblemError(problem).problem is problem


def test_a_caller_that_left_is_no_response() -> None:
    """It is an outcome of logs and metrics only."""
    assert errors.CALLER_GONE not in KINDS
