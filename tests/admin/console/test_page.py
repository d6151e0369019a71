"""admin/console/page.py: paths of pages."""

from __future__ import annotations

from sidekey.admin.console.pages.table import PAGES


def test_names_are_taken_from_the_path_and_are_not_empty() -> None:
    page = next(page for page in PAGES if page.path == "/integrations/{id}/test")
    assert page.match(["integrations", "crm", "test"]) == {"id": "crm"}
    assert page.match(["integrations", "", "test"]) is None
    assert page.match(["integrations", "crm"]) is None
