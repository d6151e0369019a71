"""The console without a store in Chromium: people read, and no page offers a change."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from api.test_no_store import without_store
from support.api import TOKENS
from support.browser import Chromium
from support.sidekey_process import SidekeyProcess
from support.ui import Console, ConsoleSetup, ConsoleUpstream, assert_accessible


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    folder = tmp_path_factory.mktemp("without")
    with SidekeyProcess(without_store(folder), folder) as process:
        yield process


@pytest.fixture
def console(child: SidekeyProcess, browser: Chromium) -> Iterator[Console]:
    opened = Console(ConsoleSetup(child, ConsoleUpstream()), browser)
    yield opened
    opened.close()


def test_no_page_offers_a_change_or_a_send(console: Console) -> None:
    """Pages say that this Sidekey is read-only, and open no form that cannot be saved."""
    page = console.open(None, "/login")
    page.get_by_label("Token", exact=True).fill(TOKENS["viewer"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("viewer-of-file (viewer)").wait_for()
    page.get_by_text("This Sidekey has no store. You can look, but not change or send.").wait_for()
    page.get_by_text("Why?").click()
    page.get_by_text("Integrations and presets come from the config files alone.").wait_for()
    assert_accessible(page)
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in to Sidekey").wait_for()
    page.get_by_label("Token", exact=True).fill(TOKENS["admin"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Integrations").wait_for()
    for path, title in (
        ("/integrations", "Integrations"),
        ("/presets", "Presets"),
        ("/presets/hook-of-a-file", "hook-of-a-file"),
        ("/access", "Access"),
        ("/access?tab=callers", "Access"),
    ):
        page.goto(f"{console.base}/ui{path}")
        page.get_by_role("heading", name=title).wait_for()
        offers = page.locator("main").get_by_role("link", name=re.compile("^(Add|Send$|Duplicate|Edit)"))
        assert offers.all() == [], path
    page.goto(f"{console.base}/ui/activity")
    page.get_by_text("Sidekey records activity in its store, and this Sidekey has none.").wait_for()
    page.goto(f"{console.base}/ui/send/hook-of-a-file")
    page.get_by_role("button", name="Send", exact=True, disabled=True).wait_for()
