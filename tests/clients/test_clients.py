"""Real HTTP clients through both proxies: the upstream gets one credential, and nothing meant for Sidekey."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from clients.conftest import Client
from support import programs
from support.http_get import get, post
from support.nginx import Nginx
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.sidekey_process import SidekeyProcess, run_cli
from support.upstream import OK, RawUpstream

HOST = "up.test"
"""An invented name: Go and Java go past a proxy for localhost."""

SECRET = "not-to-be-seen-4711"
AUTHORIZATION = b"Basic " + b64encode(f"svc:{SECRET}".encode())


def config(base: str, more: str = "") -> str:
    """Build a config with the integration `crm` and this base URL."""
    return f"""\
{more}
integrations:
  crm:
    endpoint_prefix: {base}
    auth: {{type: basic, username: svc, password: {{insecure_value: {SECRET}}}}}
"""


HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
timeouts: {{connect: 45s, request_head: 45s, response: 45s}}
"""
"""Clients may be slow: for a virtual machine that is cold, a handshake takes seconds."""
NETWORK = f'network: {{hosts: {{{HOST}: ["127.0.0.1"]}}, allow_private: ["127.0.0.0/8"]}}'


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey in front of an upstream that records every byte."""

    child: SidekeyProcess
    upstream: RawUpstream

    @property
    def proxy(self) -> str:
        """URL of the proxy without its scheme."""
        return f"127.0.0.1:{self.child.proxy_port}"

    @property
    def target(self) -> str:
        """A target under the prefix of the integration."""
        return f"http://{HOST}:{self.upstream.port}/api/hello?a=1"

    def assert_arrived_once(self) -> None:
        """Assert that one request arrived, with one credential and nothing meant for Sidekey."""
        (request,) = self.upstream.requests
        (raw,) = (data for data in self.upstream.received if data)
        assert (request.method, request.target, json.loads(request.body)) == (b"POST", b"/api/hello?a=1", {"n": 1})
        assert request.values(b"host") == [f"{HOST}:{self.upstream.port}".encode()]
        assert raw.count(b"\r\nAuthorization: %b\r\n" % AUTHORIZATION) == 1
        assert raw.lower().count(b"authorization") == 1
        for name in (b"x-integration-id", b"proxy-connection", b"upgrade", b"http2-settings", b"sidekey-token"):
            assert request.values(name) == []


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A running Sidekey and its upstream."""
    async with RawUpstream() as upstream:
        base = f"http://{HOST}:{upstream.port}/api"
        with SidekeyProcess(config(base, NETWORK), tmp_path_factory.mktemp("clients"), head=HEAD) as child:
            yield Scene(child, upstream)


@pytest.fixture(scope="module")
def variables(shared: Scene) -> dict[str, str]:
    """Return the output of `sidekey env` for a service that names the integration."""
    printed = run_cli("env", "crm", "--json", "--config", str(shared.child.config))
    environment: dict[str, str] = json.loads(printed.stdout)
    return environment


@pytest_asyncio.fixture(loop_scope="module")
async def scene(shared: Scene) -> Scene:
    """The shared scene, without recorded requests."""
    await shared.upstream.reset()
    return shared


async def test_client_uses_the_reverse_proxy(client: Client, scene: Scene) -> None:
    """Only the base URL of the service changes."""
    url = f"http://{scene.proxy}/i/crm/hello?a=1"
    assert await asyncio.to_thread(client.post, url) == "ok 200"
    scene.assert_arrived_once()


async def test_client_names_the_integration_as_proxy_user(
    client: Client, variables: dict[str, str], scene: Scene
) -> None:
    """The variables of `sidekey env` are enough."""
    assert await asyncio.to_thread(client.post, scene.target, variables) == "ok 200"
    scene.assert_arrived_once()


async def test_client_names_the_integration_in_a_header(client: Client, scene: Scene) -> None:
    """X-Integration-Id through a proxy URL without a user."""
    variables = {"http_proxy": f"http://{scene.proxy}", "HTTP_PROXY": f"http://{scene.proxy}"}
    assert await asyncio.to_thread(client.post, scene.target, variables, "crm") == "ok 200"
    scene.assert_arrived_once()


async def test_http_request_reaches_an_https_upstream(ca: Authority, tmp_path: Path) -> None:
    """The CA of the nginx is in trusted_ca. The service speaks http.

    The client does not see a difference at the reverse proxy.
    """
    network = NETWORK.replace("{", f"{{trusted_ca: {{file: {ca.bundle}}}, ", 1)
    with Nginx(tmp_path, leaf=ca.leaf(HOST)) as nginx:
        base = f"https://{HOST}:{nginx.tls_port}/api"
        with SidekeyProcess(config(base, network), tmp_path, head=HEAD) as child:
            response = await asyncio.to_thread(post, child.proxy_port, "/i/crm/hello", {}, b'{"n": 1}')
            assert response.body == f"POST /api/hello\nauthorization: {AUTHORIZATION.decode()}\n"
            (logged,) = nginx.requests(1)
    assert (logged["scheme"], logged["authorization"], logged["integration"]) == ("https", AUTHORIZATION.decode(), "")


async def test_http_url_is_upgraded_to_tls(ca: Authority, tmp_path: Path) -> None:
    """The forward proxy upgrades http://HOST/ if only an https prefix covers the host."""
    curl = programs.require("curl")
    created: list[RawConnection] = []
    # Port 443 is what the upgrade means; an address of this process's own keeps parallel runs apart.
    address = f"127.43.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: RawConnection(created.append), address, 443, ssl=ca.server_context(HOST)
        )
    except PermissionError:
        pytest.skip("port 443 needs a privilege here")
    network = NETWORK.replace("127.0.0.1", address).replace("{", f"{{trusted_ca: {{file: {ca.bundle}}}, ", 1)
    async with server:
        with SidekeyProcess(config(f"https://{HOST}/api", network), tmp_path, head=HEAD) as child:
            command = [
                curl,
                "-q",
                "-sS",
                "-x",
                f"http://crm:x@127.0.0.1:{child.proxy_port}",
                f"http://{HOST}/api/hello",
            ]
            asked = asyncio.create_task(asyncio.to_thread(subprocess.run, command, capture_output=True, check=True))
            while not created:
                await asyncio.sleep(0.01)
            request = await created[0].request()
            await created[0].send(OK)
            assert (await asked).stdout == b"ok"
            created[0].close()
            await created[0].until_lost()
    assert (request.target, request.values(b"host")) == (b"/api/hello", [HOST.encode()])
    assert request.values(b"authorization") == [AUTHORIZATION]


async def test_upstream_receives_exactly_these_bytes(scene: Scene) -> None:
    """The request of curl without hop-by-hop fields, then credential and Via."""
    curl = programs.require("curl")
    command = [
        curl,
        "-q",
        "-sS",
        "-A",
        "service/1",
        "-H",
        "X-One: 1",
        "-x",
        f"http://crm:x@{scene.proxy}",
        scene.target,
    ]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    assert result.stdout == b"ok"
    (raw,) = scene.upstream.received
    *lines, via, empty, end = raw.split(b"\r\n")
    assert (empty, end) == (b"", b"")
    assert via.startswith(b"Via: 1.1 sidekey (")
    assert lines[0] == b"GET /api/hello?a=1 HTTP/1.1"
    assert sorted(lines[1:]) == [
        b"Accept: */*",
        b"Authorization: " + AUTHORIZATION,
        f"Host: {HOST}:{scene.upstream.port}".encode(),
        b"User-Agent: service/1",
        b"X-One: 1",
    ]


async def test_request_without_a_proxy_user_is_challenged(scene: Scene) -> None:
    """Java sends the proxy user only after a 407 with a challenge."""
    response = await asyncio.to_thread(get, scene.child.proxy_port, scene.target)
    assert (response.status, response.headers["Proxy-Authenticate"]) == (407, 'Basic realm="sidekey"')
    assert json.loads(response.body)["code"] == "integration_required"
