"""The store is away while people work: PostgreSQL is stopped, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.api import TOKENS, Api, basic, managed
from support.ask import get, within
from support.browser import Chromium, Tab
from support.child import Child
from support.postgres import Postgres


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One of its own, which no other test needs meanwhile."""
    with Postgres() as running:
        yield running


@pytest.fixture
def child(server: Postgres, tmp_path: Path) -> Iterator[Child]:
    """A Sidekey with its store there."""
    # The browser's own loop runs in this thread.
    with ThreadPoolExecutor(1) as other:
        schema = other.submit(asyncio.run, server.schema()).result()
    (tmp_path / "store-url").write_text(server.url(schema))
    with managed(tmp_path, place="url: {file: store-url}", more="integrations: {}") as found:
        yield found


def test_who_was_seen_reads_what_is_loaded_and_nobody_changes_anything(
    browser: Chromium, tabs: list[Tab], child: Child, server: Postgres
) -> None:
    """Refused in words, with what was typed still there; saved as soon as the store is back, by the same page."""
    api = Api(child.admin_port, TOKENS["editor"])
    api.make("/integrations", {"id": "loaded", "description": "Orders", **basic(1)})
    editor, stranger = (Tab(browser, f"http://127.0.0.1:{child.admin_port}") for _ in range(2))
    tabs += [editor, stranger]
    editor.be(TOKENS["editor"])
    editor.open("/integrations/loaded")
    stranger.open("/login")
    server.stop()
    editor.edit("Orders", "Changed meanwhile")
    editor.press("Save", "the database cannot be reached")
    assert "Changed meanwhile" in editor.text
    stranger.page.fill("#token", TOKENS["viewer"])
    stranger.page.keyboard.press("Enter")
    stranger.page.wait_for_selector("[role=alert]:has-text('the database cannot be reached')")
    stranger.meant("503")
    other = editor.context.new_page()
    for path, text in (("/", "loaded"), ("/integrations/loaded", "Orders"), ("/add", "Find a provider")):
        other.goto(editor.base + path)
        assert other.is_visible("text=The store cannot be used now.")
        assert text in other.inner_text("main")
    other.goto(f"{editor.base}/integrations/loaded")
    other.click("summary:has-text('Delete')")
    other.click("button:text-is('Delete loaded')")
    other.wait_for_selector("[role=alert]:has-text('the database cannot be reached')")
    editor.meant("503")
    server.start()
    within(lambda: "\nsidekey_store_up 1.0\n" in get(child.admin_port, "/metrics").body)
    editor.page.click("button:text-is('Save')")
    editor.page.wait_for_url("**?done=saved")
    assert api.get("/integrations/loaded")["description"] == "Changed meanwhile"
    assert not editor.page.is_visible("text=The store cannot be used now.")
