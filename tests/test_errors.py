"""The table of responses."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from http import HTTPStatus
from pathlib import Path
from typing import get_args

import pytest

import sidekey
from sidekey import errors
from sidekey.errors import DENYING, KINDS, REASONS, Denial, Problem, ProblemError, Reason
from support.denials import denial_of

SOURCES = {path: ast.parse(path.read_bytes()) for path in Path(sidekey.__file__).parent.rglob("*.py")}
"""The program's own, as syntax trees."""


@pytest.mark.parametrize("code", KINDS)
def test_a_response_takes_the_usual_status_and_error_of_its_kind(code: str) -> None:
    """The first of each is the usual one."""
    problem = Problem(code, "because", denial=denial_of(code))
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
        Problem("target_denied", "because", status=status, error=error, denial="outside_prefix")


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
    problem = Problem("target_denied", "because", denial="outside_prefix")
    assert ProblemError(problem).problem is problem


def test_a_caller_that_left_is_no_response() -> None:
    """It is an outcome of logs and metrics only."""
    assert errors.CALLER_GONE not in KINDS


def test_the_reasons_of_denials_are_a_closed_list() -> None:
    """Each word of the type has its row, and each row a code of the table of responses and a sentence."""
    assert tuple(REASONS) == get_args(Denial)
    for reason in REASONS.values():
        assert set(reason.codes) <= KINDS.keys()
        assert reason.meaning.endswith(".")


@pytest.mark.parametrize("code", sorted(DENYING))
def test_a_denial_without_a_reason_is_a_defect(code: str) -> None:
    """It could not be counted."""
    with pytest.raises(ValueError, match=f"{code} must have a denial"):
        Problem(code, "because")


@pytest.mark.parametrize("reason", REASONS.values(), ids=lambda reason: reason.denial)
def test_a_reason_belongs_to_its_codes(reason: Reason) -> None:
    """And to no other; it is no part of the response."""
    for code in reason.codes:
        assert Problem(code, "because", denial=reason.denial) == Problem(code, "because", denial=denial_of(code))
    with pytest.raises(ValueError, match=f"{reason.denial} must have one of the codes"):
        Problem("overloaded", "because", denial=reason.denial)


def problems_made() -> Iterator[tuple[str, ast.Call]]:
    """Every place of the data plane that makes a problem; those of the API are others."""
    for path, tree in SOURCES.items():
        if path.parent.name == "api":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                yield f"{path.name}:{node.lineno}", node


def test_every_place_that_denies_says_why() -> None:
    """Also on paths that no test takes; where the code is no literal, it may be one that denies."""
    places = list(problems_made())
    assert len(places) > 80
    for place, call in places:
        code = call.args[0]
        named = {keyword.arg for keyword in call.keywords}
        if isinstance(code, ast.Constant):
            assert (code.value in DENYING) <= ("denial" in named), place
        else:
            assert "denial" in named or place.startswith("request_validation.py"), place


def test_every_reason_is_given_somewhere() -> None:
    """The list has no word that nothing is denied for."""
    words = {
        node.value
        for path, tree in SOURCES.items()
        if path.name != "errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in REASONS
    }
    assert words == set(REASONS)
