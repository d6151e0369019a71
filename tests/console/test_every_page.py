"""Accessibility of the pages in the bar, for each role, on a phone and on a laptop."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.sync_api import expect

from sidekey.snapshot.admin import Role
from support.ui import Console, assert_accessible

ROLES: Final[tuple[Role, ...]] = ("sender", "viewer", "editor", "admin")


@pytest.mark.parametrize("role", ROLES)
def test_pages_of_each_role_are_accessible(console: Console, role: Role) -> None:
    page = console.open(role, "/nowhere")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("This page does not exist")
    bar = page.get_by_role("navigation", name="Pages").get_by_role("link")
    names = bar.all_inner_texts()
    assert ("Send" in names) == (role != "viewer")
    assert role != "sender" or names == ["Send"]
    top = heading.bounding_box()["y"]
    for name in names:
        bar.get_by_text(name, exact=True).click()
        expect(heading).to_have_text(name)
        expect(heading).to_be_focused()
        assert heading.bounding_box()["y"] == top, name
        page.wait_for_load_state("networkidle")
        assert_accessible(page)
        search = page.get_by_role("searchbox")
        if search.count():
            page.keyboard.press("/")
            expect(search.first).to_be_focused()
