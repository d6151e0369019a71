"""Browsers that are logged in to the Sidekey that all tests of pages share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidekey.runtime.admin_rules import Role
from support.api import TOKENS, Api, Running
from support.pages import Pages

LogIn = Callable[[Role], Pages]


@pytest.fixture
def log_in(running: Running) -> LogIn:
    """Makes a browser that is logged in with a role."""

    def browser(role: Role) -> Pages:
        pages = Pages(running.child.admin_port)
        seen = pages.log_in(TOKENS[role])
        assert (seen.status, seen.path) == (200, "/")
        return pages

    return browser


@pytest.fixture
def api(running: Running) -> Api:
    """The API, by an editor's token."""
    return Api(running.child.admin_port, TOKENS["editor"])
