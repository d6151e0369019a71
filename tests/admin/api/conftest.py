"""One Sidekey with a store for all tests of the API, whose names differ; tests that change more start their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from support.api import TOKENS, Api, managed
from support.child import Child
from support.nginx import Nginx

MORE = """
callers: {of-a-file: {token: {insecure_value: the-token-of-a-file}, presets: [hook-of-a-file], integrations: "*"}}
presets:
  outside-of-a-file: {integration: of-a-file, url: http://127.0.0.1:1/other, content_type: text/plain}
  hook-of-a-file:
    integration: of-a-file
    url: http://127.0.0.1:1/v1/hook
    content_type: application/json
    parameters: {user: {type: text}}
    body: {text: "Hello {{user}}", n: 1.5}
integrations:
  of-a-file:
    description: Written in a file
    tags: [files]
    endpoint_prefix: http://127.0.0.1:1/v1
    auth: {type: headers, headers: {X-Key: {secret: {insecure_value: a-secret-of-a-file}}}}
  without-a-secret:
    endpoint_prefix: http://127.0.0.1:1
    auth: {type: headers, headers: {X-Key: {secret: {file: gone}}}}
"""


@dataclass(frozen=True)
class Running:
    """The process, and the upstream that its integrations may dial."""

    child: Child
    upstream: int


@contextmanager
def serving(folder: Path) -> Iterator[Running]:
    """A Sidekey with a store, and an echoing upstream."""
    with Nginx(folder) as nginx, managed(folder, more=MORE) as child:
        yield Running(child, nginx.port)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all."""
    with serving(tmp_path_factory.mktemp("api")) as found:
        yield found


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


_NUMBERS = count()


@pytest.fixture
def named() -> Callable[[str], str]:
    """Makes names that no other test has."""
    return lambda word: f"{word}-{next(_NUMBERS)}"
