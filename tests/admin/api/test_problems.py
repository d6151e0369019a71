"""admin/api/problems.py: the errors of the API as RFC 9457 has them."""

from __future__ import annotations

import json

import pytest

from sidekey.admin.api.problems import CODES, TYPE, ApiProblem, ItemError, invalid


@pytest.mark.parametrize("code", CODES)
def test_a_problem_says_what_its_row_says(code: str) -> None:
    """Type, title and status by the code; an instance of its own."""
    problem = ApiProblem(code, "why", headers={"X-A": "b"})
    answer, again = problem.answer(), problem.answer()
    body = json.loads(answer.body)
    assert (answer.status, answer.content_type, answer.headers) == (CODES[code].status, TYPE, {"X-A": "b"})
    assert body.pop("instance") != json.loads(again.body)["instance"]
    assert body == {
        "type": f"urn:sidekey:answer:{code}",
        "title": CODES[code].title,
        "status": CODES[code].status,
        "detail": "why",
        "code": code,
    }


def test_errors_are_at_pointers() -> None:
    """All of them."""
    body = json.loads(invalid([ItemError("/a", "one"), ItemError("/b", "two")]).answer().body)
    assert (body["status"], body["detail"]) == (422, "2 values are not valid: see errors")
    assert body["errors"] == [{"pointer": "/a", "detail": "one"}, {"pointer": "/b", "detail": "two"}]
    assert json.loads(invalid([ItemError("", "x")]).answer().body)["detail"] == "one value is not valid: see errors"
