"""The tables of responses and denials."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from http import HTTPStatus
from pathlib import Path
from typing import get_args

import pytest

import sidekey
from sidekey import errors
from sidekey.errors import (
    ALWAYS_DENIED,
    DENIAL_REASONS,
    RESPONSE_KINDS,
    Actor,
    Denial,
    DenialReason,
    Problem,
    ProblemError,
    causes_of,
)
from support.denials import denial_of

SOURCES = {path: ast.parse(path.read_bytes()) for path in Path(sidekey.__file__).parent.rglob("*.py")}
"""Syntax trees of the program."""


@pytest.mark.parametrize("code", RESPONSE_KINDS)
def test_problem_defaults_to_the_first_status_and_error(code: str) -> None:
    problem = Problem(code, "because", denial=denial_of(code))
    kind = RESPONSE_KINDS[code]
    assert (problem.status, problem.error, problem.title, problem.sent) == (
        kind.statuses[0],
        kind.errors[0],
        kind.title,
        "no",
    )


@pytest.mark.parametrize("code", RESPONSE_KINDS)
def test_every_status_is_a_standard_http_status(code: str) -> None:
    """Every status then has a reason phrase."""
    assert all(HTTPStatus(status) >= 400 for status in RESPONSE_KINDS[code].statuses)


@pytest.mark.parametrize("code", RESPONSE_KINDS)
def test_every_code_has_its_remedy(code: str) -> None:
    """Who acts, whether to retry, and each cause with what to do, in sentences."""
    kind, causes = RESPONSE_KINDS[code], causes_of(code)
    assert kind.actors
    assert set(kind.actors) <= set(get_args(Actor))
    assert kind.retry.startswith(("Yes", "No"))
    assert {denial for denial in causes.values() if denial} == {
        denial for denial, reason in DENIAL_REASONS.items() if code in reason.codes
    }
    assert causes
    sentences = [kind.retry, kind.remedy, *(text for cause in causes for text in cause)]
    assert [text for text in sentences if not re.fullmatch(r"[A-Z`].+\.", text)] == []


@pytest.mark.parametrize(("status", "error"), [(200, ""), (502, "http_request_denied"), (0, "made_up")])
def test_combination_outside_the_table_is_a_defect(status: int, error: str) -> None:
    with pytest.raises(ValueError, match="target_denied"):
        Problem("target_denied", "because", status=status, error=error, denial="outside_prefix")


def test_an_unknown_code_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Problem("made_up", "because")


def test_a_problem_is_a_frozen_value() -> None:
    """Several owners share it, so none may change it."""
    problem = Problem("overloaded", "because", headers=(("Retry-After", "1"),))
    with pytest.raises(FrozenInstanceError):
        problem.sent = "maybe"  # type: ignore[misc]
    sent_problem = problem.maybe_sent()
    assert (sent_problem.sent, problem.sent) == ("maybe", "no")
    assert (sent_problem.code, sent_problem.detail, sent_problem.status, sent_problem.headers) == (
        "overloaded",
        "because",
        503,
        problem.headers,
    )


def test_an_exception_carries_a_problem_unchanged() -> None:
    problem = Problem("target_denied", "because", denial="outside_prefix")
    assert ProblemError(problem).problem is problem


def test_disconnected_caller_has_no_kind_of_response() -> None:
    """It is an outcome in logs and metrics."""
    assert errors.CALLER_GONE not in RESPONSE_KINDS


def test_denials_are_a_closed_list() -> None:
    """Each has a row in the table, with codes of the table of responses and a sentence."""
    assert tuple(DENIAL_REASONS) == get_args(Denial)
    for reason in DENIAL_REASONS.values():
        assert set(reason.codes) <= RESPONSE_KINDS.keys()
        assert reason.meaning.endswith(".")


@pytest.mark.parametrize("code", sorted(ALWAYS_DENIED))
def test_denied_response_without_a_denial_is_a_defect(code: str) -> None:
    """The metric could not count it."""
    with pytest.raises(ValueError, match=f"{code} must have a denial"):
        Problem(code, "because")


@pytest.mark.parametrize("reason", DENIAL_REASONS.values(), ids=lambda reason: reason.denial)
def test_denial_allows_only_its_codes(reason: DenialReason) -> None:
    """Two problems that differ only in it are equal, as their responses are."""
    for code in reason.codes:
        assert Problem(code, "because", denial=reason.denial) == Problem(code, "because", denial=denial_of(code))
    with pytest.raises(ValueError, match=f"{reason.denial} must have one of the codes"):
        Problem("overloaded", "because", denial=reason.denial)


def problem_calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield every call of `Problem` outside of the API, which has problems of its own."""
    for path, tree in SOURCES.items():
        if path.parent.name == "api":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem":
                yield f"{path.name}:{node.lineno}", node


def test_every_denial_in_the_source_has_a_reason() -> None:
    """Even on paths that no test runs. A code that is no literal may deny."""
    calls = list(problem_calls())
    assert len(calls) > 80
    for location, call in calls:
        code = call.args[0]
        named = {keyword.arg for keyword in call.keywords}
        if isinstance(code, ast.Constant):
            assert (code.value in ALWAYS_DENIED) <= ("denial" in named), location
        else:
            assert "denial" in named or location.startswith("request_validation.py"), location


def test_every_denial_is_used() -> None:
    words = {
        node.value
        for path, tree in SOURCES.items()
        if path.name != "errors.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in DENIAL_REASONS
    }
    assert words == set(DENIAL_REASONS)
