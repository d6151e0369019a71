"""The pages in the bar, as each role, on a phone and on a laptop."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.sync_api import expect

from sidekey.runtime.admin_rules import Role
from support.ui import WIDTHS, Console, axe

ROLES: Final[tuple[Role, ...]] = ("sender", "viewer", "editor", "admin")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("role", ROLES)
def test_pages_of_a_role_are_for_everybody(console: Console, role: Role, width: int) -> None:
    page = console.open(role, "/nowhere", width=width)
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("This page does not exist")
    bar = page.get_by_role("navigation", name="Pages").get_by_role("link")
    names = bar.all_inner_texts()
    assert ("Send" in names) == (role != "viewer")
    assert role != "sender" or names == ["Send"]
    for name in names:
        bar.get_by_text(name, exact=True).click()
        expect(heading).to_have_text(name)
        expect(heading).to_be_focused()
        page.wait_for_load_state("networkidle")
        assert axe(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        search = page.get_by_role("searchbox")
        if search.count():
            page.keyboard.press("/")
            expect(search.first).to_be_focused()


def test_key_adds_an_integration(console: Console) -> None:
    page = console.open("editor", "/integrations")
    page.get_by_role("link", name="Add integration").wait_for()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", level=1)).to_have_text("Add an integration")
