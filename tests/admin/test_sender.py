"""A sender tries everything that there is: only its own presets and sends are for it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from sidekey.admin.api.routes import ROUTES
from sidekey.admin.console.pages.table import PAGES
from sidekey.runtime.admin_rules import PERMISSIONS
from support.api import TOKENS, Api, Running, basic, serving
from support.pages import Pages

IGNORED = {"sidekey_audit", "sidekey_uses", "sidekey_sessions"}
"""Tables that note refusals, the last use of a token, and log-ins."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A Sidekey that no other test changes."""
    with serving(tmp_path_factory.mktemp("sender")) as found:
        yield found


def contents(store: Path) -> dict[str, list[Any]]:
    """Return all rows of the store that a sender may not change, by table."""
    with closing(sqlite3.connect(store)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(names - IGNORED)}


def at(path: str, name: str) -> str:
    return re.sub(r"\{[^}]+\}", name, path)


def test_sender_reaches_nothing_else(running: Running) -> None:
    """403 at every route of the API without the permissions of a sender, and at every page of the former console."""
    port = running.child.admin_port
    admin = Api(port)
    admin.make("/integrations", {"id": "watched", **basic(running.upstream)})
    for name, document in (
        ("callers", {"name": "watched", "integrations": ["watched"]}),
        ("tokens", {"name": "watched", "role": "viewer", "own_token": admin.token}),
    ):
        admin.make(f"/{name}", document)
    granted = {"role": "sender", "presets": ["hook-of-a-file"], "own_token": admin.token}
    token = admin.make("/tokens", {"name": "mark", **granted})["token"]
    sender = admin.by(token)
    store = running.child.config.parent / "store.db"
    before = contents(store)
    assert before["sidekey_rows"]

    cookie = log_in(sender, token)
    ways: tuple[dict[str, str], ...] = (
        {},
        {"Authorization": "", "Cookie": cookie, "Sec-Fetch-Site": "same-origin", "Sidekey-Console": "1"},
    )
    refused = 0
    for route in ROUTES:
        if route.permission in PERMISSIONS["sender"]:
            continue
        body = {"id": "new", "name": "new", **basic(running.upstream)} if route.body else None
        match = '"1"' if route.conditional else None
        for headers in ways:
            said = sender.ask(route.method, at(route.path, "watched"), body, match=match, headers=headers)
            assert (said.status, said.code) == (403, "forbidden"), route
            refused += 1
            if route.method == "GET":
                assert sender.ask("HEAD", at(route.path, "watched"), headers=headers).status == 403, route
    assert refused >= 2 * 30

    pages = Pages(port)
    seen = pages.log_in(token)
    assert (seen.status, "Open /ui/ to send." in seen.text) == (403, True)
    assert "sidekey" not in pages.cookies
    # The former console has the same sessions.
    pages.cookies = {"sidekey": cookie.partition("=")[2].partition(".")[0]}
    for page in PAGES:
        for method in {page.method, "HEAD" if page.method == "GET" else page.method}:
            seen = pages.ask(method, at(page.path, "watched"), {"version": "1"} if method == "POST" else None)
            assert seen.status == 403, page
    assert contents(store) == before


def log_in(sender: Api, token: str) -> str:
    """Return the cookie of a new session."""
    said = sender.ask("POST", "/session", {"token": token}, headers={"Authorization": "", "Sidekey-Console": "1"})
    assert said.status == 201, said
    ((name, morsel),) = SimpleCookie(said.headers["Set-Cookie"]).items()
    return f"{name}={morsel.value}"


def test_a_sender_of_the_config_is_described_with_its_grants(running: Running) -> None:
    """And knows nothing of what it was not granted."""
    sender = Api(running.child.admin_port, TOKENS["sender"])
    assert sender.get("/whoami").items() >= {"role": "sender", "presets": ["hook-of-a-file"], "per_day": 1000}.items()
    assert sender.ask("GET", "/presets/hook-of-a-file").code == "forbidden"
