"""The gzipped size of everything that a browser loads for the first page."""

from __future__ import annotations

import gzip
import posixpath
import re
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from support.ui import Console, ConsoleSetup

MAXIMUM: Final = 120 << 10
SEND_MAXIMUM: Final = 60 << 10
"""Both are in bytes. The pages to send are for phones too."""

Load = Callable[[str], tuple[str, int]]


@pytest.fixture
def load(shared: ConsoleSetup) -> Load:
    """Load a path: return its text, and how many bytes were transferred."""

    def load(path: str) -> tuple[str, int]:
        connection = HTTPConnection("127.0.0.1", shared.child.admin_port, timeout=10)
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert (response.status, response.headers["Content-Encoding"]) == (200, "gzip"), path
        return gzip.decompress(body).decode(), len(body)

    return load


def modules(load: Load, path: str, known: dict[str, int]) -> dict[str, int]:
    """Return the sizes of a module and all its static imports, except those in `known`."""
    sizes = dict(known)
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in sizes:
            text, sizes[current] = load(current)
            imported = re.findall(r'^(?:import|export)\b[^"();]*"(\.[^"]+)";', text, re.MULTILINE)
            waiting += [posixpath.normpath(posixpath.join(posixpath.dirname(current), name)) for name in imported]
    return sizes


def test_pages_are_small(load: Load) -> None:
    index, size = load("/ui/")
    assets = re.findall(r'(?:href|src)="(/ui/assets/[^"]+)"', index)
    frame = {"/ui/": size, **{path: load(path)[1] for path in assets}}
    folder = posixpath.dirname(assets[0])
    routes = re.findall(r'path: "([^"]+)", page: \(\) => import\("\./([^"]+)"\)', load(f"{folder}/routes.js")[0])
    assert ("/login", "pages/login.js") in routes
    sizes = {path: sum(modules(load, f"{folder}/{page}", frame).values()) for path, page in routes}
    assert {
        path: size for path, size in sizes.items() if size > (SEND_MAXIMUM if path.startswith("/send") else MAXIMUM)
    } == {}


def transferred(console: Console, path: str) -> int:
    """Return how many bytes a browser receives until it shows a page that lists the providers."""
    requests: list[Any] = []

    def add(request: Any) -> None:
        requests.append(request)

    page = console.browser("admin")
    page.on("requestfinished", add)
    page.goto(f"{console.base}/ui{path}")
    page.get_by_role("heading", name="Popular").or_(page.get_by_role("link", name="Add Microsoft")).first.wait_for()
    page.wait_for_load_state("networkidle")
    assert "/api/v1/providers" in [urlsplit(request.url).path for request in requests]
    sizes = [request.sizes() for request in requests]
    return sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)


def test_pages_with_the_catalogue_are_small(console: Console) -> None:
    """Kinds and providers are the largest responses for a first page."""
    sizes = {path: transferred(console, path) for path in ("/add/integrations", "/providers")}
    assert {path: size for path, size in sizes.items() if size > MAXIMUM} == {}
