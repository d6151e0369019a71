"""`sidekey demo`: send requests to an upstream of its own, on loopback. It needs no files and no network."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import textwrap
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from ipaddress import ip_network
from itertools import zip_longest
from typing import Any
from urllib.request import HTTPHandler, OpenerDirector, Request

import click

from sidekey.app import App, run_logged
from sidekey.cli.terminal import fail
from sidekey.credentials.basic import BasicSettings
from sidekey.credentials.context import Context
from sidekey.observe.writer import LineWriter
from sidekey.policy.targets import Policy, parse_prefix
from sidekey.snapshot.admin import AdminRules, AdminToken
from sidekey.snapshot.request_rules import Limits
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Address, Integration, Listen, Log, NetworkRules, Snapshot, TestRequest

ID = "demo"
HOST = "api.example"
USER, PASSWORD = "svc", "made-up-for-this-demo"
AUTHORIZATION = f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
BODY = b'{"text": "hello"}'
TIMEOUT = 10.0
"""Seconds until a request of the demo times out."""


class ProtectedUpstream:
    """Responds with the request that it received, or with 401 if that lacks the demo's credential.

    `received` has the lines of each request head.
    """

    def __init__(self) -> None:
        self.port = 0
        self.received: list[list[str]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen on a free loopback port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = head.rstrip("\r\n").split("\r\n")
                fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                self.received.append(lines)
                writer.write(_respond(lines, fields, body))
        except (asyncio.IncompleteReadError, ConnectionError):
            # Clients close their connections.
            return
        finally:
            writer.close()


def _respond(lines: list[str], fields: dict[str, str], body: bytes) -> bytes:
    if fields.get("authorization") != AUTHORIZATION:
        return _response("401 Unauthorized", {"error": "no"}, 'WWW-Authenticate: Basic realm="demo"\r\n')
    return _response("200 OK", {"request": lines[0], "headers": lines[1:], "body": body.decode("latin-1")})


def _response(status: str, content: dict[str, Any], fields: str = "") -> bytes:
    body = json.dumps(content, indent=2).encode() + b"\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    return head.encode() + body


class _RecordingConnection(http.client.HTTPConnection):
    """HTTP connection that records the bytes it sends."""

    def __init__(self, sent: list[bytes], host: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._sent = sent

    def send(self, data: bytes) -> None:  # type: ignore[override]  # a body here is always bytes
        self._sent.append(data)
        super().send(data)


class _RecordingHandler(HTTPHandler):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_RecordingConnection, self.sent), req)


@dataclass(frozen=True, slots=True)
class SentRequest:
    """Lines of a request head, and the response. `status` is 0 if there was no response."""

    sent: list[str]
    status: int
    proxy_status: str | None
    body: str


def send(url: str, proxy: str | None = None) -> SentRequest:
    """Send a request without credentials, as a service would, directly or through `proxy`."""
    request = Request(url, BODY, {"Content-Type": "application/json"})  # noqa: S310 - the demo's own http URLs
    if proxy is not None:
        # Like a client with HTTP_PROXY=http://demo:x@HOST:PORT. urllib's ProxyHandler would obey the user's no_proxy.
        request.set_proxy(proxy, "http")
        request.add_header("Proxy-Authorization", f"Basic {b64encode(f'{ID}:x'.encode()).decode()}")
    handler = _RecordingHandler()
    opener = OpenerDirector()
    opener.add_handler(handler)
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            body = response.read().decode("latin-1")
    except (OSError, http.client.HTTPException):
        return SentRequest([f"POST {url}"], 0, None, "no response")
    head = b"".join(handler.sent).partition(b"\r\n\r\n")[0].decode("latin-1")
    return SentRequest(head.split("\r\n"), response.status, response.headers.get("Proxy-Status"), body)


@dataclass(slots=True)
class Demo:
    """Sends the requests of the demo and prints them. `failures` lists unexpected results."""

    app: App
    upstream: ProtectedUpstream
    failures: list[str] = field(default_factory=list)

    @property
    def _proxy(self) -> str:
        return str(self.app.proxy_address)

    @property
    def _base(self) -> str:
        return f"http://{HOST}:{self.upstream.port}/v1"

    async def play(self) -> None:
        """Send every request and print it beside what the upstream received."""
        click.echo(f"A protected upstream runs as {self._base}: it returns 401 without its Basic credential,")
        click.echo(f"user {USER}, password {PASSWORD} (shown because it is made up).")
        await self._show_unauthorized()
        await self._show_success("1. Through the reverse proxy", f"http://{self._proxy}/i/{ID}/messages")
        await self._show_success(
            f"2. Through HTTP_PROXY=http://{ID}:x@{self._proxy}", f"{self._base}/messages", self._proxy
        )
        await self._show_denied()

    async def _show_unauthorized(self) -> None:
        result = await asyncio.to_thread(send, f"http://127.0.0.1:{self.upstream.port}/v1/messages")
        self._check("the upstream without a credential", result.status == 401, result)
        click.echo(f"Without Sidekey it returns {result.status}.")

    async def _show_success(self, title: str, url: str, proxy: str | None = None) -> None:
        count = len(self.upstream.received)
        result = await asyncio.to_thread(send, url, proxy)
        received = self.upstream.received[count:]
        exact = len(received) == 1 and received[0].count(f"Authorization: {AUTHORIZATION}") == 1
        self._check(title, result.status == 200 and exact, result)
        click.echo(f"\n{title}: {result.status}\n")
        for line in side_by_side(result.sent, received[0] if received else ["(nothing)"]):
            click.echo(line)

    async def _show_denied(self) -> None:
        count = len(self.upstream.received)
        result = await asyncio.to_thread(send, f"http://{HOST}:{self.upstream.port}/v2/messages", self._proxy)
        is_denied = result.status == 403 and result.proxy_status is not None
        self._check("the denied target", is_denied and len(self.upstream.received) == count, result)
        click.echo(f"\n3. A target outside the policy: Sidekey returns {result.status}\n")
        click.echo(f"    {result.sent[0]}\n\n    Proxy-Status: {result.proxy_status}\n    {result.body}")
        click.echo("    Nothing reached the upstream.")

    def _check(self, title: str, ok: bool, result: SentRequest) -> None:
        if not ok:
            self.failures.append(f"failed: {title}: status {result.status} {result.proxy_status or ''}".rstrip())

    def hints(self) -> str:
        """Return commands to try by hand while the demo runs."""
        return textwrap.dedent(f"""
            Try it by hand:
              curl http://{self._proxy}/i/{ID}/hello
              http_proxy=http://{ID}:x@{self._proxy} curl {self._base}/hello
              curl -i -x http://{self._proxy} -H 'X-Integration-Id: {ID}' {self._base}/hello
              curl -i -x http://{ID}:x@{self._proxy} http://{HOST}:{self.upstream.port}/v2/hello    # denied
              curl http://{self.app.admin_address}/metrics
            The console, read-only as there is no store:
              http://{self.app.admin_address}/ui/    # log in with the token {PASSWORD}""")


def side_by_side(sent: list[str], received: list[str]) -> Iterator[str]:
    """Format two columns as wide as the terminal allows; `+` marks lines that only the upstream received."""
    width = max(34, min(64, (shutil.get_terminal_size().columns - 9) // 2))
    left = _format_column("what the caller sent", sent, (), width)
    right = _format_column("what the upstream received", received, sent, width)
    for sent_line, received_line in zip_longest(left, right, fillvalue="  "):
        yield f"    {sent_line:<{width + 2}} | {received_line}".rstrip()


def _format_column(title: str, lines: list[str], known: list[str] | tuple[()], width: int) -> Iterator[str]:
    yield f"  {title}"
    yield f"  {'-' * len(title)}"
    for line in lines:
        mark = "+ " if known and line not in known else "  "
        yield from textwrap.wrap(line, width, initial_indent=mark, subsequent_indent="    ") or [""]


def demo_snapshot(upstream_port: int) -> Snapshot:
    """Build the demo's config: one `basic` integration for the upstream's /v1, on free loopback ports."""
    auth = BasicSettings.model_validate(
        {"type": "basic", "username": USER, "password": {"insecure_value": PASSWORD}}, context=Context("file")
    )
    values, _ = auth.read(lambda reference: reference.value, {})
    loader = SecretLoader(partial(auth.credential, values))
    loader.load()
    prefix = parse_prefix(f"http://{HOST}:{upstream_port}/v1")
    policy, test = Policy(prefixes=(prefix,)), TestRequest("GET", "/hello")
    integration = Integration(ID, auth.type, policy, prefix, loader, auth.traits(), title="Demo", test=test)
    return Snapshot(
        {ID: integration},
        listen=Listen(proxy=Address(), admin=Address()),
        network=NetworkRules(hosts={HOST: ("127.0.0.1",)}, allow_private=(ip_network("127.0.0.1/32"),)),
        limits=Limits(in_flight=100),
        log=Log(level="warning", access="off"),
        admin=AdminRules(tokens={ID: AdminToken(sha256(PASSWORD.encode()).digest(), "viewer")}, has_operators=True),
    )


def run_demo(*, once: bool) -> list[str]:
    """Run the demo until a signal, or with `once` until its requests have ended. Return the failures."""
    return run_logged(Log(level="warning"), partial(_run_demo, once=once))


async def _run_demo(writer: LineWriter, *, once: bool) -> list[str]:
    upstream = ProtectedUpstream()
    async with upstream.listening():
        app = App(demo_snapshot(upstream.port), writer)
        app.install_signal_handlers()
        await app.start()
        demo = Demo(app, upstream)
        await demo.play()
        click.echo(demo.hints())
        if once:
            await app.stop()
            if not demo.failures:
                click.echo(
                    "\nAll of it worked. Without --once the demo keeps running, so that you can try the lines above."
                )
        else:
            click.echo("\nThe demo runs until Ctrl-C.")
            await app.serve()
    return demo.failures


@click.command()
@click.option("--once", is_flag=True, help="Exit after the requests, with status 0 if all of them succeeded.")
def command(once: bool) -> None:
    """Show what Sidekey does, on loopback, without a config.

    Requests go through the reverse proxy and the forward proxy to a protected upstream, which is also on loopback.
    """
    failed = run_demo(once=once)
    if failed:
        fail(*failed)
