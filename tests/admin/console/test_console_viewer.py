"""A viewer tries everything that there is: every form and every address of the console, every operation of the API."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import pytest

from admin.conftest import Named
from admin.console.conftest import LogIn
from sidekey.admin.api.route import PathTable
from sidekey.admin.api.routes import ROUTES
from sidekey.admin.console.pages.table import PAGES
from sidekey.runtime.admin_rules import PERMISSIONS
from support.api import TOKENS, Api, Running, basic

TABLES: Final = ("sidekey_rows", "sidekey_keys")
"""What operators change. A log-in, and a test that is noted, stand elsewhere."""


def kept(running: Running) -> list[Any]:
    """What is in the store."""
    with closing(sqlite3.connect(running.child.config.parent / "store.db")) as database:
        return [database.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES]


@pytest.fixture
def unchanged(running: Running, api: Api, named: Named) -> Iterator[str]:
    """The ID of an integration; afterwards the store has what it had before."""
    name = named("watched")
    api.make("/integrations", {"id": name, **basic(running.upstream)})
    before = kept(running)
    yield name
    assert kept(running) == before


def at(path: str, name: str) -> str:
    """A path with this name for whatever stands in braces."""
    return re.sub(r"\{[^}]+\}", name, path)


def test_no_form_and_no_address_of_a_page_changes_anything(log_in: LogIn, unchanged: str) -> None:
    """What is not for viewers is refused with the role that it needs, whatever is sent."""
    pages = log_in("viewer")
    token = pages.get("/").form("/logout").fields["form_token"]
    refused = 0
    for page in PAGES:
        body = {"form_token": token, "version": "1", "name": "new"}
        seen = pages.ask(page.method, at(page.path, unchanged), body if page.method == "POST" else None)
        if page.role != "viewer":
            refused += 1
            assert (seen.status, f"needs the role {page.role}" in seen.text) == (403, True), page
    assert refused >= 10


def test_pages_show_a_viewer_no_form_that_is_refused(log_in: LogIn, unchanged: str) -> None:
    """What one may not do is not offered."""
    pages = log_in("viewer")
    for page in PAGES:
        if page.method != "GET" or page.role != "viewer":
            continue
        for form in pages.get(at(page.path, unchanged)).forms:
            if form.method != "post" or form.action == "/logout":
                continue
            found, _ = PathTable(PAGES).find(form.action)
            assert found["POST"].role == "viewer", form.action


def test_no_operation_of_the_api_changes_anything(running: Running, unchanged: str) -> None:
    """Whatever a viewer sends; what writes is refused."""
    viewer = Api(running.child.admin_port, TOKENS["viewer"])
    refused = 0
    for route in ROUTES:
        body = {"id": "new", "name": "new", **basic(running.upstream)} if route.body else None
        said = viewer.ask(route.method, at(route.path, unchanged), body, match='"1"' if route.conditional else None)
        if route.permission not in PERMISSIONS["viewer"]:
            refused += 1
            assert (said.status, said.code) == (403, "forbidden"), route.name
    assert refused >= 12
