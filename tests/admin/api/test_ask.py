"""admin/api/ask.py: a request as handlers see it."""

from __future__ import annotations

import pytest

from sidekey.admin.api.ask import Ask
from sidekey.admin.api.operators import Operator

OPERATOR = Operator("ann", "viewer", "digest")


def test_a_body_is_asked_for_where_there_is_one() -> None:
    """A handler of a route without a body that asks is a defect."""
    assert Ask(OPERATOR, body={"a": 1}).document == {"a": 1}
    with pytest.raises(RuntimeError):
        Ask(OPERATOR).document  # noqa: B018 - a property


def test_a_request_does_not_show_what_it_brings() -> None:
    """Neither the body, nor what the operator is known by."""
    shown = repr(Ask(OPERATOR, body={"password": "canary"}))
    assert "canary" not in shown
    assert "digest" not in shown
