"""docs/api.md describes every route and every problem."""

from __future__ import annotations

from sidekey.api.errors import CODES
from sidekey.api.routes import ROUTES
from tools.api_page import page


def test_page_has_a_row_for_every_route_and_problem() -> None:
    text = page()
    assert all(f"| `{route.method} {route.path}`: " in text for route in ROUTES)
    assert all(f"| `{code}` | {row.status} |" in text for code, row in CODES.items())
