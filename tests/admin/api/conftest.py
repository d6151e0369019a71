"""The API of the Sidekey that all tests share, by the token of each role; tests that change more start their own."""

from __future__ import annotations

import pytest

from support.api import TOKENS, Api, Running


@pytest.fixture
def api(running: Running) -> Api:
    """The API, by an admin's token."""
    return Api(running.child.admin_port)


@pytest.fixture
def editor(api: Api) -> Api:
    """The same, by an editor's."""
    return api.by(TOKENS["editor"])


@pytest.fixture
def viewer(api: Api) -> Api:
    """The same, by a viewer's."""
    return api.by(TOKENS["viewer"])
