"""A Sidekey in the test's process, from the text of a config: every listener, and token requests."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sidekey.app import App
from sidekey.config.load import Loader
from sidekey.observe.log import configure
from sidekey.observe.writer import LineWriter
from sidekey.store_manager import StoreManager
from support.plane import eventually
from support.private_ca import Authority
from support.raw_connection import connect
from support.scraping import value_of
from support.wire import Message

HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}}
network: {{allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {bundle}}}, hosts: {hosts}}}
log: {{level: debug, access: all, path: true}}
timeouts: {{connect: 45s, request_head: 45s, response: 45s}}
integrations:
"""
"""Time-outs are the subject of tests that write a head of their own: both ends share one loop, which may be slow."""

NO_ENVIRON: Mapping[str, str] = {}


@dataclass(slots=True)
class RunningApp:
    """A running Sidekey. `log` is its output."""

    app: App
    log: Path

    @property
    def port(self) -> int:
        """Port of the proxy listener."""
        return self.app.proxy_address.port

    async def send(self, request: bytes) -> Message:
        """Send a request on a connection of its own."""
        async with connect(self.port) as caller:
            await caller.send(request)
            return await caller.response(to_head=request.startswith(b"HEAD "))

    async def reverse(
        self, path: str, *fields: str, method: str = "GET", body: bytes = b"", name: str = "it"
    ) -> Message:
        """Send through the reverse proxy to the integration `name`."""
        return await self.send(_head(method, f"/i/{name}{path}", "127.0.0.1", fields, body))

    async def forward(
        self, url: str, *fields: str, method: str = "GET", body: bytes = b"", name: str = "it"
    ) -> Message:
        """Send through the forward proxy, as a client with HTTP_PROXY does."""
        return await self.send(_head(method, url, "ignored", (f"X-Integration-Id: {name}", *fields), body))

    def hang_up(self) -> None:
        """Reload as SIGHUP does: at once, while the watch would wait for further changes."""
        self.app._on_hangup()

    async def metric(self, series: str) -> float:
        """Return the value of a series in a scrape, or 0."""
        async with connect(self.app.admin_address.port) as scraper:
            await scraper.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = (await scraper.response()).body.decode()
        return value_of(text, series)

    def calls(self, outcome: str, name: str = "it") -> int:
        """Return the number of token requests with this outcome."""
        return self.app.metrics.calls.get((name, outcome), 0)

    async def logged(self, event: str) -> dict[str, Any]:
        """Wait for the first line of this event."""
        await eventually(lambda: any(line["event"] == event for line in self.lines()))
        return next(line for line in self.lines() if line["event"] == event)

    def lines(self) -> list[dict[str, Any]]:
        """Return the complete lines of the log so far: its thread may be writing another."""
        complete, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in complete.splitlines()]


def problem(response: Message) -> dict[str, Any]:
    """Parse a response of Sidekey itself."""
    assert response.values(b"content-type") == [b"application/problem+json"], response
    document: dict[str, Any] = json.loads(response.body)
    return document


def _head(method: str, target: str, host: str, fields: tuple[str, ...], body: bytes) -> bytes:
    length = (f"Content-Length: {len(body)}",) if body else ()
    lines = (f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, *length, "", "")
    return "\r\n".join(lines).encode("latin-1") + body


@asynccontextmanager
async def serving(
    integrations: str,
    folder: Path,
    ca: Authority,
    *,
    hosts: Mapping[str, list[str]] | None = None,
    environ: Mapping[str, str] = NO_ENVIRON,
    head: str = HEAD,
    whole: bool = True,
) -> AsyncIterator[RunningApp]:
    """Serve these integrations, YAML indented by two spaces. `hosts` maps names to addresses in 127.0.0.0/8.

    With `whole`, every secret must be readable.
    """
    path = folder / "sidekey.yaml"
    path.write_text(head.format(bundle=ca.bundle, hosts=json.dumps(hosts or {})) + integrations)
    loader = Loader(path, environ)
    loaded = loader.load()
    assert loaded.errors == []
    assert not (whole and loaded.of("unreadable")), loaded.of("unreadable")
    assert loaded.snapshot is not None
    log = folder / "sidekey.log"
    writer = LineWriter(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    configure("debug", writer)
    managed, snapshot = None, loaded.snapshot
    if snapshot.store is not None:
        managed = await StoreManager.open(snapshot.store, loader)
        snapshot = loader.combine(loaded)
    app = App(snapshot, writer, managed, None if managed is None else managed.ledger)
    try:
        await app.start()
        writer.start()
        app.watch_config(loader, loaded, strict=False)
        yield RunningApp(app, log)
    finally:
        await app.stop()
        writer.close()
