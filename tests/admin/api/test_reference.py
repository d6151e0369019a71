"""admin/api/reference.py: docs/api.md is what the tables say."""

from __future__ import annotations

from pathlib import Path

from sidekey.admin.api import reference
from sidekey.admin.api.problems import CODES
from sidekey.admin.api.table import ROUTES

ROOT = Path(__file__).parents[3]


def test_the_page_is_up_to_date() -> None:
    """`make docs` writes it; whoever changes a route runs that."""
    assert (ROOT / reference.PAGE).read_text("utf-8") == reference.page()


def test_the_page_has_every_route_and_every_problem(tmp_path: Path) -> None:
    """In tables."""
    reference.main(tmp_path)
    text = (tmp_path / reference.PAGE).read_text("utf-8")
    assert all(f"| `{route.method} {route.path}`: " in text for route in ROUTES)
    assert all(f"| `{code}` | {row.status} |" in text for code, row in CODES.items())
