"""console/static_files.py: the files of the pages, with their headers."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

import pytest

from support.api import managed
from support.http_get import get, post
from support.raw_connection import DEADLINE
from support.sidekey_process import SidekeyProcess

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
}


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidekeyProcess]:
    """A Sidekey with a store."""
    with managed(tmp_path_factory.mktemp("static")) as process:
        yield process


def fetch(
    child: SidekeyProcess, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[HTTPResponse, bytes]:
    """Send one request, without a token."""
    with closing(HTTPConnection("127.0.0.1", child.admin_port, timeout=DEADLINE)) as connection:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        return response, response.read()


def test_every_page_is_the_index(child: SidekeyProcess) -> None:
    pages = set()
    for path in ("/ui", "/ui/", "/ui/send/welcome?tab=csv", "/ui/a%0Ab", "/ui/../ui/%2e%2e"):
        response, body = fetch(child, path)
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-cache")
        pages.add(body)
    assert len(pages) == 1


def test_page_names_its_assets_and_preloads_every_module_of_the_frame(child: SidekeyProcess) -> None:
    _, page = fetch(child, "/ui/")
    names = re.findall(rb'(?:href|src)="(/ui/assets/[0-9a-f]{16}/[^"]+)"', page)
    assert {name.rsplit(b"/", 1)[-1] for name in names} >= {b"main.js", b"router.js", b"preact.js", b"console.css"}
    for name in names:
        response, plain = fetch(child, name.decode())
        assert response.status == 200
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Vary"] == "Accept-Encoding"
        compressed, body = fetch(child, name.decode(), {"Accept-Encoding": "br, gzip"})
        assert compressed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(body) == plain
        assert response.headers["Content-Encoding"] is None


def test_asset_of_another_version_is_404(child: SidekeyProcess) -> None:
    """A page never gets a mixture of versions, nor a document in place of a module."""
    _, page = fetch(child, "/ui/")
    match = re.search(rb"/ui/assets/([0-9a-f]{16})/main.js", page)
    assert match is not None
    version = match[1].decode()
    for path in (
        "/ui/assets/0000000000000000/main.js",
        f"/ui/assets/{version}/",
        f"/ui/assets/{version}/index.html",
        f"/ui/assets/{version}/vendor/LICENSES.txt",
        f"/ui/assets/{version}/../static_files.py",
        f"/ui/assets/{version}/%2e%2e/static.py",
        "/ui/assets/main.js",
        "/ui/assets/",
    ):
        response, body = fetch(child, path)
        assert (response.status, response.headers["Cache-Control"]) == (404, "no-store"), path
        assert body.count(b"\n") == 1


def test_other_sites_may_link_to_pages_and_load_no_asset(child: SidekeyProcess) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert fetch(child, "/ui/send", link)[0].status == 200
    with closing(HTTPConnection("127.0.0.1", child.admin_port, timeout=DEADLINE)) as connection:
        connection.request("GET", "/ui/assets/0000000000000000/main.js", headers=link)
        assert connection.getresponse().status == 403


@pytest.mark.parametrize(
    "path", ["/", "/?q=x", "/login", "/add", "/integrations/crm", "/presets", "/access", "/activity", "/login/%0A"]
)
def test_paths_of_an_earlier_console_redirect_to_the_pages(child: SidekeyProcess, path: str) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for method, headers in (("GET", link), ("GET", {}), ("HEAD", {})):
        response, body = fetch(child, path, headers, method)
        assert (response.status, response.headers["Location"], body) == (302, "/ui/", b"")


def test_other_paths_are_404(child: SidekeyProcess) -> None:
    for path in ("/static/console.css", "/session/api/v1/whoami", "/nothing", "/access-log", "/logout", "//login"):
        assert get(child.admin_port, path).status == 404
    assert post(child.admin_port, "/login", {}, b"token=x").status == 405
