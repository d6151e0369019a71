"""Real WebSocket clients and servers: Python's websockets, npm's ws, and Chromium. Each way into Sidekey."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ProxySettings
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from support import programs
from support.browser import Window, chromium
from support.plane import eventually
from support.private_ca import Authority
from support.serving import RunningApp, serving
from support.sidekey_process import SidekeyProcess, clean_environment

HOST = "up.test"
SECRET = "not-to-be-seen-4711"
TOKEN = "token-of-the-caller"
HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:0", admin: "127.0.0.1:0"}}
network: {{allow_private: ["127.0.0.0/8"], trusted_ca: {{file: {bundle}}}, hosts: {hosts}}}
log: {{access: all}}
ca: {{folder: FOLDER}}
CALLERSintegrations:
"""
CHAT = [Subprotocol("chat")]
CALLERS = f"callers: {{{{app: {{{{token: {{{{insecure_value: {TOKEN}}}}}, integrations: [chat]}}}}}}}}\n"


@dataclass(slots=True)
class EchoServer:
    """A server of `websockets` that echoes each message. It records the requests, and the code of each close."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    codes: list[int | None] = field(default_factory=list)

    async def echo(self, socket: ServerConnection) -> None:
        """Echo each message in fragments, until the client closes or asks the server to."""
        assert socket.request is not None
        self.requests.append(socket.request)
        with suppress(ConnectionClosedError):
            async for message in socket:
                if message == "close":
                    await socket.close(4002, "as you say")
                else:
                    await socket.send([message[:1], message[1:]])
        await socket.wait_closed()
        self.codes.append(socket.close_code)

    def respond(self, connection: ServerConnection, request: Request) -> Response | None:
        """Serve a page to Chromium, which opens the socket from it."""
        return connection.respond(HTTPStatus.OK, "page") if request.path.endswith("/page") else None


@asynccontextmanager
async def running_echo(context: ssl.SSLContext | None = None) -> AsyncIterator[EchoServer]:
    server = EchoServer()
    listening = serve(
        server.echo, "127.0.0.1", 0, ssl=context, process_request=server.respond, subprotocols=CHAT, max_size=None
    )  # type: ignore[arg-type,var-annotated]
    async with listening as opened:
        server.port = next(iter(opened.sockets)).getsockname()[1]
        yield server


@asynccontextmanager
async def sidekey(
    folder: Path, ca: Authority, port: int, scheme: str, *, callers: bool = False
) -> AsyncIterator[RunningApp]:
    chat = f"""\
  chat:
    endpoint_prefix: {scheme}://{HOST}:{port}/api
    upgrade: [websocket]
    auth: {{type: headers, headers: {{Authorization: {{prefix: "Bearer ", secret: {{insecure_value: {SECRET}}}}}}}}}
"""
    head = HEAD.replace("FOLDER", str(folder / "state")).replace("CALLERS", CALLERS if callers else "")
    async with serving(chat, folder, ca, hosts={HOST: ["127.0.0.1"]}, head=head) as running:
        yield running


async def converse(socket: ClientConnection) -> None:
    """Send a text, fragments, large messages and pings, and check what comes back."""
    await socket.send("grüße")
    assert await socket.recv() == "grüße"
    await socket.send(["one ", "two ", "three"])
    assert await socket.recv() == "one two three"
    large = bytes(range(256)) * (8 << 10)
    sent = asyncio.create_task(socket.send(large))
    assert await socket.recv() == large
    await sent
    await (await socket.ping(b"are you there"))


def trusted(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "state" / "trust" / "ca.pem")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("way", ["reverse proxy", "tunnel"])
async def test_python_client(ca: Authority, tmp_path: Path, scheme: str, way: str) -> None:
    """With compression and a subprotocol. The client closes, and then the server does."""
    context = ca.server_context(HOST) if scheme == "https" else None
    async with running_echo(context) as server, sidekey(tmp_path, ca, server.port, scheme) as running:
        options: dict[str, Any] = {"subprotocols": ["other", "chat"], "max_size": None}
        if way == "reverse proxy":
            url = f"ws://127.0.0.1:{running.port}/i/chat/room?a=1"
        else:
            url = f"{'wss' if scheme == 'https' else 'ws'}://{HOST}:{server.port}/api/room?a=1"
            options |= {"proxy": f"http://chat:x@127.0.0.1:{running.port}"}
            options |= {"ssl": trusted(tmp_path)} if scheme == "https" else {}
        async with connect(url, **options) as socket:
            assert socket.subprotocol == "chat"
            assert socket.response is not None
            assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
            await converse(socket)
            await socket.close(4001, "done")
        async with connect(url, **options) as socket:
            await socket.send("close")
            await socket.wait_closed()
            assert (socket.close_code, socket.close_reason) == (4002, "as you say")
        await eventually(lambda: server.codes == [4001, 4002])
        for request in server.requests:
            assert request.path == "/api/room?a=1"
            assert request.headers.get_all("Authorization") == [f"Bearer {SECRET}"]
            assert request.headers["Host"] == f"{HOST}:{server.port}"
        await eventually(lambda: not any(running.app.metrics.tunnels.values()))
        assert await running.metric('sidekey_requests_total{integration="chat",outcome="1xx"}') == 2
        assert await running.metric('sidekey_open_tunnels{mode="websocket"}') == 0


async def test_token_of_a_caller_is_needed(ca: Authority, tmp_path: Path) -> None:
    """Its header is not forwarded."""
    async with running_echo() as server, sidekey(tmp_path, ca, server.port, "http", callers=True) as running:
        url = f"ws://127.0.0.1:{running.port}/i/chat/room"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
        assert refused.value.response.status_code == 401
        assert server.requests == []
        async with connect(
            url, additional_headers={"Sidekey-Token": TOKEN}, subprotocols=CHAT, max_size=None
        ) as socket:
            await converse(socket)
        assert "Sidekey-Token" not in server.requests[0].headers


async def run_node(*arguments: str, **variables: str) -> Any:
    """Run npm's client, and return what it prints."""
    node = await asyncio.create_subprocess_exec(
        programs.require("node"),
        str(programs.require_npm("clients") / "websocket_client.mjs"),
        *arguments,
        env=clean_environment(variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await node.communicate()
    assert node.returncode == 0, errors.decode()
    return json.loads(output)


@pytest.mark.parametrize("way", ["reverse proxy", "tunnel"])
async def test_npm_client(ca: Authority, tmp_path: Path, way: str) -> None:
    async with running_echo(ca.server_context(HOST)) as server, sidekey(tmp_path, ca, server.port, "https") as running:
        if way == "reverse proxy":
            printed = await run_node(f"ws://127.0.0.1:{running.port}/i/chat/room")
        else:
            printed = await run_node(
                f"wss://{HOST}:{server.port}/api/room",
                f"http://chat:x@127.0.0.1:{running.port}",
                NODE_EXTRA_CA_CERTS=str(tmp_path / "state" / "trust" / "ca.pem"),
            )
        assert printed == ["chat", "permessage-deflate", "grüße", "one two", 1 << 20, "are you there", 4001]
        await eventually(lambda: server.codes == [4001])
        assert server.requests[0].headers.get_all("Authorization") == [f"Bearer {SECRET}"]


async def test_npm_server(ca: Authority, tmp_path: Path) -> None:
    node = await asyncio.create_subprocess_exec(
        programs.require("node"),
        str(programs.require_npm("clients") / "websocket_server.mjs"),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert node.stdout is not None
        port = int(await node.stdout.readline())
        async with sidekey(tmp_path, ca, port, "http") as running:
            async with connect(f"ws://127.0.0.1:{running.port}/i/chat/room", max_size=None) as socket:
                await converse(socket)
            assert json.loads(await node.stdout.readline()) == ["/api/room", f"Bearer {SECRET}", 1000]
    finally:
        node.kill()
        await node.wait()


OPEN = """url => new Promise(resolve => {
    const socket = new WebSocket(url, "chat");
    socket.onopen = () => socket.send("from a page");
    socket.onmessage = event => { resolve(event.data); socket.close(4003); };
    socket.onerror = () => resolve("refused");
})"""


def open_in_chromium(proxy: ProxySettings, page: str, url: str) -> Any:
    """Open a page through the proxy, and from it a WebSocket. Return the first message, or `refused`."""
    with chromium(proxy=proxy) as browser:
        window = browser.open_page(Window(any_certificate=True))
        assert window.goto(page).status == 200
        return window.evaluate(OPEN, url)


async def test_chromium_with_a_token(ca: Authority, tmp_path: Path) -> None:
    """Through a tunnel that Sidekey decrypts. The browser sends Origin."""
    async with running_echo(ca.server_context(HOST)) as server:
        async with sidekey(tmp_path, ca, server.port, "https", callers=True) as running:
            proxy = ProxySettings(server=f"http://127.0.0.1:{running.port}", username="chat", password=TOKEN)
            base = f"//{HOST}:{server.port}/api"
            arguments = (proxy, f"https:{base}/page", f"wss:{base}/room")
            assert await asyncio.to_thread(open_in_chromium, *arguments) == "from a page"
            await eventually(lambda: server.codes == [4003])
        (request,) = server.requests
        assert request.headers["Origin"] == f"https://{HOST}:{server.port}"
        assert request.headers.get_all("Authorization") == [f"Bearer {SECRET}"]


async def test_chromium_without_a_token_is_refused(ca: Authority, tmp_path: Path) -> None:
    """No page may read a WebSocket with the credential, unlike its other requests, which the browser guards."""
    async with running_echo(ca.server_context(HOST)) as server:
        async with sidekey(tmp_path, ca, server.port, "https") as running:
            proxy = ProxySettings(server=f"http://127.0.0.1:{running.port}", username="chat", password="x")
            base = f"//{HOST}:{server.port}/api"
            arguments = (proxy, f"https:{base}/page", f"wss:{base}/room")
            assert await asyncio.to_thread(open_in_chromium, *arguments) == "refused"
        assert server.requests == []


async def test_sigterm_with_an_open_socket(tmp_path: Path) -> None:
    """The socket works until `timeouts.drain` is over. Then both ends see it cut."""
    head = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
network: {{allow_private: ["127.0.0.0/8"]}}
timeouts: {{drain: 2s}}
"""
    async with running_echo() as server:
        chat = f"""\
integrations:
  chat:
    endpoint_prefix: http://127.0.0.1:{server.port}/api
    upgrade: [websocket]
    auth: {{type: headers, headers: {{X-Key: {{secret: {{insecure_value: {SECRET}}}}}}}}}
"""
        with SidekeyProcess(chat, tmp_path, head=head) as child:
            async with connect(f"ws://127.0.0.1:{child.proxy_port}/i/chat/room", subprotocols=CHAT) as socket:
                await socket.send("before")
                assert await socket.recv() == "before"
                child.process.send_signal(signal.SIGTERM)
                child.wait_for_line(lambda line: "draining" in line)
                await socket.send("meanwhile")
                assert await socket.recv() == "meanwhile"
                with pytest.raises(ConnectionClosedError):
                    await socket.recv()
            await eventually(lambda: server.codes == [1006])
            await asyncio.to_thread(child.wait)
            line = child.wait_for_line(lambda line: '"status":101' in line)
    assert json.loads(line)["reason"] == "Sidekey has stopped, and timeouts.drain is over"
