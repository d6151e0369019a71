"""api/guard.py: the guard refuses requests for other servers and from other sites."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from sidekey.api.guard import Refusal, respond_line
from sidekey.api.listeners import Extension, Health, build_admin, build_metrics
from sidekey.api.server import Server, serve
from sidekey.observe.metrics import Metrics
from sidekey.observe.prometheus import Exposition
from sidekey.snapshot.snapshot import Address


class Named(Extension):
    """An extension with a host name."""

    def names(self) -> frozenset[str]:
        return frozenset({"sidekey.internal"})

    def refuse(self, request: web.Request, refusal: Refusal) -> web.Response:
        return respond_line(request, refusal)

    def is_console_page(self, request: web.Request) -> bool:
        return request.path == "/page"

    def refuse_scrape(self, request: web.Request) -> web.Response | None:
        del request

    def add_to(self, app: web.Application) -> None:
        del app


@pytest.fixture
async def admin() -> AsyncIterator[Server]:
    server = await serve(build_admin(Health(), Exposition(Metrics()), Named()), Address(), "listen.admin")
    yield server
    await server.close()


@pytest.fixture
async def metrics() -> AsyncIterator[Server]:
    server = await serve(build_metrics(Health(), Exposition(Metrics())), Address(), "listen.metrics")
    yield server
    await server.close()


async def send(server: Server, request: str) -> tuple[int, str]:
    """Send raw bytes and read to the end. Return the status and the response."""
    address = server.addresses[0]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(request.encode("latin-1"))
    response = (await reader.read()).decode("latin-1")
    writer.close()
    await writer.wait_closed()
    return int(response.split(" ", 2)[1]), response


def get(target: str, *fields: str) -> str:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Connection: close", *fields, "", ""))


@pytest.mark.parametrize(
    "target", ["http://localhost/metrics", "http://other.example/metrics", "HTTP://127.0.0.1/healthz"]
)
async def test_absolute_form_is_misdirected_at_both_listeners(admin: Server, metrics: Server, target: str) -> None:
    """aiohttp would route the request by its path. Neither listener is a proxy."""
    for server in (admin, metrics):
        status, text = await send(server, get(target, "Host: localhost"))
        assert (status, "not a proxy" in text, "sidekey_" in text) == (421, True, False)


@pytest.mark.parametrize("method", ["OPTIONS *", "CONNECT localhost:80"])
async def test_targets_of_other_forms_are_refused(admin: Server, method: str) -> None:
    """Neither the asterisk-form nor the authority-form is for these listeners."""
    status, _ = await send(admin, f"{method} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert status in (400, 404, 405, 421)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "localhost:1", "LOCALHOST", "sidekey.internal"]
)
async def test_admin_listener_accepts_its_names(admin: Server, host: str) -> None:
    """The names are IP literals, localhost and the configured names."""
    assert (await send(admin, get("/healthz", f"Host: {host}")))[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "\xe9", "a@127.0.0.1"]
)
async def test_admin_listener_refuses_other_hosts(admin: Server, host: str) -> None:
    """A page that rebinds its name to a loopback address sends its own name."""
    assert (await send(admin, get("/metrics", f"Host: {host}")))[0] in (400, 421)


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
async def test_admin_listener_refuses_pages_of_other_sites(admin: Server, site: str, status: int) -> None:
    """Browsers send the site of the page. Only pages of this listener and the address bar may send requests."""
    assert (await send(admin, get("/healthz", "Host: localhost", f"Sec-Fetch-Site: {site}")))[0] == status


LINK = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document")


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/page", LINK, 404),
        ("/page", (LINK[0], "Sec-Fetch-Dest: iframe"), 403),
        ("/page", ("Sec-Fetch-Mode: no-cors", LINK[1]), 403),
        ("/page", LINK[:1], 403),
        ("/healthz", LINK, 403),
        ("/metrics", LINK, 403),
    ],
)
async def test_link_of_another_site_may_lead_to_a_page(
    admin: Server, path: str, fields: tuple[str, ...], status: int
) -> None:
    """404: the request reached the path of the pages."""
    request = get(path, "Host: localhost", "Sec-Fetch-Site: cross-site", *fields)
    assert (await send(admin, request))[0] == status
    posted = request.replace("GET", "POST", 1)
    assert (await send(admin, posted))[0] == 403


@pytest.mark.parametrize("fields", [[], ["Host: localhost", "Host: localhost"]])
async def test_request_without_exactly_one_host_is_malformed(admin: Server, metrics: Server, fields: list[str]) -> None:
    """RFC 9112 3.2."""
    for server in (admin, metrics):
        assert (await send(server, get("/healthz", *fields)))[0] == 400


async def test_http_1_0_needs_no_host(admin: Server) -> None:
    """Old health checkers send none."""
    assert (await send(admin, "GET /healthz HTTP/1.0\r\n\r\n"))[0] == 200
