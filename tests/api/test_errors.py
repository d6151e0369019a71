"""api/errors.py: problems as in RFC 9457."""

from __future__ import annotations

import pytest

from sidekey.api.dispatch import respond_problem
from sidekey.api.errors import CODES, TYPE, ApiProblem, ItemError, invalid


@pytest.mark.parametrize("code", CODES)
def test_problem_has_type_title_and_status_of_its_code(code: str) -> None:
    """Each problem has a unique instance."""
    problem = ApiProblem(code, "why", headers={"X-A": "b"})
    body = problem.to_body().model_dump(exclude_unset=True)
    response = respond_problem(problem)
    assert (response.status, response.headers["Content-Type"]) == (CODES[code].status, TYPE)
    assert response.headers["X-A"] == "b"
    assert body.pop("instance") != problem.to_body().instance
    assert body == {
        "type": f"urn:sidekey:problem:{code}",
        "title": CODES[code].title,
        "status": CODES[code].status,
        "detail": "why",
        "code": code,
    }


def test_problem_lists_all_errors_with_pointers() -> None:
    body = invalid([ItemError("/a", "one"), ItemError("/b", "two", 3, 4)]).to_body().model_dump(exclude_unset=True)
    assert (body["status"], body["detail"]) == (422, "2 values are not valid: see errors")
    assert body["errors"] == [
        {"pointer": "/a", "detail": "one"},
        {"pointer": "/b", "detail": "two", "line": 3, "column": 4},
    ]
    assert invalid([ItemError("", "x")]).detail == "one value is not valid: see errors"
