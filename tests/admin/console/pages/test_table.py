"""admin/console/pages/table.py: each page is found by one path, and says who may open it."""

from __future__ import annotations

from collections import Counter

from sidekey.admin.api.route import PathTable
from sidekey.admin.console.pages.table import PAGES


def test_each_page_is_found_by_one_path() -> None:
    assert max(Counter((page.method, page.path) for page in PAGES).values()) == 1
    table = PathTable(PAGES)
    for page in PAGES:
        assert table.find(page.path)[0][page.method] is page


def test_only_who_may_edit_changes_anything() -> None:
    """A test, an explanation and a preview change nothing."""
    posts = {page.path: page.role for page in PAGES if page.method == "POST"}
    assert {path for path, role in posts.items() if role == "viewer"} == {
        "/integrations/{id}/test",
        "/integrations/{id}/explain",
    }
    assert {page.role for page in PAGES if page.path.startswith(("/access", "/activity"))} == {"admin"}
