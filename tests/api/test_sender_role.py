"""Senders and viewers try every route, and reach only what their role permits."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sidekey.api.routes import ROUTES
from sidekey.snapshot.admin import PERMISSIONS
from support.api import TOKENS, Api, ApiSetup, basic, serving
from support.console_browser import PAGE, ConsoleBrowser

IGNORED = {"sidekey_audit", "sidekey_uses", "sidekey_sessions"}
"""Tables with refusals, last uses of tokens, and log-ins."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSetup]:
    """Run a Sidekey whose store no other test changes."""
    with serving(tmp_path_factory.mktemp("sender")) as process:
        yield process


def contents(store: Path) -> dict[str, list[Any]]:
    """Return all rows of the store that a sender may not change, by table."""
    with closing(sqlite3.connect(store)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in sorted(names - IGNORED)}


def at(path: str, name: str) -> str:
    return re.sub(r"\{[^}]+\}", name, path)


def test_sender_reaches_only_its_presets_and_sends(running: ApiSetup) -> None:
    """All other routes respond 403, with a token and with a cookie."""
    port = running.child.admin_port
    admin = Api(port)
    admin.create("/integrations", {"id": "watched", **basic(running.upstream)})
    for name, document in (
        ("callers", {"name": "watched", "integrations": ["watched"]}),
        ("tokens", {"name": "watched", "role": "viewer", "own_token": admin.token}),
    ):
        admin.create(f"/{name}", document)
    granted = {"role": "sender", "presets": ["hook-of-a-file"], "own_token": admin.token}
    token = admin.create("/tokens", {"name": "mark", **granted})["token"]
    sender = admin.by(token)
    store = running.child.config.parent / "store.db"
    before = contents(store)
    assert before["sidekey_rows"]

    browser = ConsoleBrowser(port)
    browser.log_in(token)
    ways: tuple[dict[str, str], ...] = ({}, {"Authorization": "", "Cookie": f"sidekey-ui={browser.cookie}", **PAGE})
    refused = 0
    for route in ROUTES:
        if route.permission in PERMISSIONS["sender"]:
            continue
        body = {"id": "new", "name": "new", **basic(running.upstream)} if route.body else None
        match = '"1"' if route.conditional else None
        for headers in ways:
            response = sender.request(route.method, at(route.path, "watched"), body, match=match, headers=headers)
            assert (response.status, response.code) == (403, "forbidden"), route
            refused += 1
            if route.method == "GET":
                assert sender.request("HEAD", at(route.path, "watched"), headers=headers).status == 403, route
    assert refused >= 2 * 30
    assert contents(store) == before


def test_viewer_changes_nothing(running: ApiSetup) -> None:
    admin = Api(running.child.admin_port)
    admin.create("/integrations", {"id": "seen", **basic(running.upstream)})
    store = running.child.config.parent / "store.db"
    before = contents(store)
    viewer, refused = admin.by(TOKENS["viewer"]), 0
    for route in ROUTES:
        if route.permission in ("anonymous", "self"):
            continue
        body = {"id": "new", "name": "new", **basic(running.upstream)} if route.body else None
        response = viewer.request(
            route.method, at(route.path, "seen"), body, match='"1"' if route.conditional else None
        )
        if route.permission not in PERMISSIONS["viewer"]:
            assert (response.status, response.code) == (403, "forbidden"), route.name
            refused += 1
    assert refused >= 12
    assert contents(store) == before


def test_sender_of_the_config_sees_its_grants(running: ApiSetup) -> None:
    """A sender cannot read the preset itself."""
    sender = Api(running.child.admin_port, TOKENS["sender"])
    assert sender.get("/whoami").items() >= {"role": "sender", "presets": ["hook-of-a-file"], "per_day": 1000}.items()
    assert sender.request("GET", "/presets/hook-of-a-file").code == "forbidden"
