"""api/listeners.py: health checks and metrics on either listener."""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sidekey.api import listeners
from sidekey.api.listeners import Health, build_admin, build_metrics
from sidekey.api.server import Server, serve
from sidekey.observe.metrics import Metrics
from sidekey.observe.prometheus import Exposition
from sidekey.snapshot.snapshot import Address
from support.captured_logs import capture_logging
from support.programs import require


class Running:
    """A listener with its health and metrics, and an HTTP client."""

    def __init__(
        self, server: Server, health: Health, metrics: Metrics, client: aiohttp.ClientSession, is_admin: bool
    ) -> None:
        self.is_admin = is_admin
        self.url = f"http://{server.addresses[0]}"
        self.health = health
        self.metrics = metrics
        self.client = client

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        async with self.client.request(method, self.url + path) as response:
            return response.status, await response.text()


@pytest.fixture(params=["listen.admin", "listen.metrics"])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    health, metrics = Health(), Metrics()
    build = build_admin if request.param == "listen.admin" else build_metrics
    server = await serve(build(health, Exposition(metrics)), Address(), request.param)
    async with aiohttp.ClientSession() as client:
        yield Running(server, health, metrics, client, is_admin=build is build_admin)
    await server.close()


async def test_live_process_is_healthy_whatever_its_readiness(running: Running) -> None:
    """A liveness probe must not restart a process that drains."""
    assert await running.ask("/healthz") == (200, "ok\n")


async def test_readiness_fails_before_the_start_and_during_a_drain(running: Running) -> None:
    assert await running.ask("/readyz") == (503, "starting\n")
    running.health.started = True
    assert await running.ask("/readyz") == (200, "ok\n")
    running.health.draining = True
    assert await running.ask("/readyz") == (503, "draining\n")


async def test_startup_stays_successful(running: Running) -> None:
    """A drain fails readiness only."""
    assert await running.ask("/startupz") == (503, "starting\n")
    running.health.started = running.health.draining = True
    assert await running.ask("/startupz") == (200, "ok\n")


async def test_head_of_metrics_has_no_body(running: Running) -> None:
    assert await running.ask("/metrics", "HEAD") == (200, "")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/api/v1/integrations", "/%2e%2e/metrics", "//metrics"])
async def test_unknown_path_is_404(running: Running, path: str) -> None:
    async with running.client.get(aiohttp.client.URL(running.url + path, encoded=True)) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("path", "media_type", "missing"),
    [
        ("/", "text/plain", "the console"),
        ("/ui", "text/plain", "the console"),
        ("/ui/login", "text/plain", "the console"),
        ("/api/v1", "application/problem+json", "the API"),
        ("/api/v1/integrations", "application/problem+json", "the API"),
    ],
)
async def test_admin_listener_without_operators_says_what_to_configure(
    running: Running, path: str, media_type: str, missing: str
) -> None:
    """The metrics listener, which any host may reach, says nothing."""
    async with running.client.get(running.url + path) as response:
        text = await response.text()
        assert response.status == 404
        if running.is_admin:
            assert response.content_type == media_type
            assert f"{missing} is not configured: set `store`" in text
        else:
            assert text == "404: Not Found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_unknown_method_is_405(running: Running, method: str) -> None:
    """RFC 9110 15.5.6."""
    async with running.client.request(method, running.url + "/metrics") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")


async def test_curl_and_promtool_read_a_thousand_integrations(running: Running) -> None:
    curl, promtool = require("curl"), require("promtool")
    for number in range(1000):
        running.metrics.stats(f"i{number}").record("2xx", 0.01)
    page = await asyncio.to_thread(
        subprocess.run, [curl, "-sSf", running.url + "/metrics"], capture_output=True, text=True, check=True
    )
    lint = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=page.stdout, capture_output=True, text=True, check=False
    )
    assert page.stdout.count("sidekey_requests_total{") == 1000
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")


async def test_concurrent_scrapes_are_complete(running: Running) -> None:
    """Concurrent scrapes may share a page."""
    for number in range(500):
        running.metrics.stats(f"i{number}").record("2xx", 0.01)
    pages = await asyncio.gather(*[running.ask("/metrics") for _ in range(5)])
    assert {page.count("sidekey_request_duration_seconds_count{") for _, page in pages} == {500}


async def test_scraper_that_stops_reading_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page does not look complete, and the log has no error."""
    monkeypatch.setattr(listeners, "SCRAPE_TIMEOUT", 0.05)
    metrics = Metrics()
    for number in range(2000):
        metrics.stats(f"i{number}").record("2xx", 0.01)
    address = Address(path=str(tmp_path / "metrics.sock"))
    with capture_logging() as log:
        server = await serve(build_metrics(Health(), Exposition(metrics)), address, "listen.metrics")
        with socket.socket(socket.AF_UNIX) as scraper:
            scraper.connect(str(address.path))
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            poll = select.poll()
            # Without events to wait for, poll(2) still reports that the other side closed the connection.
            poll.register(scraper, 0)
            await asyncio.to_thread(poll.poll, 30_000)
            page = b"".join(iter(lambda: scraper.recv(1 << 16), b""))
        await server.close()
    assert page.startswith(b"HTTP/1.1 200 OK\r\n")
    assert not page.endswith(b"0\r\n\r\n")
    assert [record for record in log.records if record.name == "sidekey.admin"] == []
