"""Real HTTP clients with an https:// URL and HTTPS_PROXY. Only their trusted CAs change."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from clients.conftest import Client
from clients.test_clients import AUTHORIZATION, HEAD, HOST, NETWORK, config
from support import programs
from support.private_ca import Authority
from support.sidekey_process import SidekeyProcess
from support.upstream import RawUpstream

OF_EXEC = ("requests", "httpx", "aiohttp", "go")
"""Those that test_exec.py runs as well, with the same variables: here in CI alone."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey in front of an https upstream that records every byte, with the trust folder of callers."""

    child: SidekeyProcess
    upstream: RawUpstream
    trust: Path

    @property
    def url(self) -> str:
        """A target under the prefix of the integration."""
        return f"https://{HOST}:{self.upstream.port}/api/hello?a=1"

    def variables(self) -> dict[str, str]:
        """Return the output of `sidekey env --by-host`."""
        proxy = f"http://127.0.0.1:{self.child.proxy_port}"
        bundle = str(self.trust / "bundle.pem")
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO")
        java = (
            f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={self.child.proxy_port} "
            f"-Djavax.net.ssl.trustStore={self.trust / 'truststore.p12'} -Djdk.http.auth.tunneling.disabledSchemes="
        )
        return {"https_proxy": proxy, "HTTPS_PROXY": proxy, "JAVA_TOOL_OPTIONS": java, **dict.fromkeys(names, bundle)}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A running Sidekey with a local CA, and its upstream."""
    folder = tmp_path_factory.mktemp("https")
    network = NETWORK.replace("{", f"{{trusted_ca: {{file: {ca.bundle}}}, ", 1)
    more = f"{network}\nforward: {{match_by_host: true}}\nca: {{folder: {folder / 'state'}}}"
    async with RawUpstream(ssl_context=ca.server_context(HOST)) as upstream:
        with SidekeyProcess(config(f"https://{HOST}:{upstream.port}/api", more), folder, head=HEAD) as child:
            yield Scene(child, upstream, folder / "state" / "trust")


@pytest_asyncio.fixture(loop_scope="module")
async def scene(shared: Scene) -> Scene:
    """The shared scene, without recorded requests."""
    await shared.upstream.reset()
    return shared


def assert_arrived_once(scene: Scene) -> None:
    """Assert that one request arrived, with the credential and nothing meant for Sidekey."""
    (request,) = scene.upstream.requests
    assert (request.method, request.target, json.loads(request.body)) == (b"POST", b"/api/hello?a=1", {"n": 1})
    assert request.values(b"host") == [f"{HOST}:{scene.upstream.port}".encode()]
    assert request.values(b"authorization") == [AUTHORIZATION]


@pytest.mark.parametrize("client", [*OF_EXEC, "curl", "java"], indirect=True)
async def test_client_sends_to_an_https_url(client: Client, scene: Scene) -> None:
    """Sidekey terminates TLS with a certificate that the client verifies. The client names no integration."""
    assert await asyncio.to_thread(client.post, scene.url, scene.variables()) == "ok 200"
    assert_arrived_once(scene)


async def test_openssl_opens_a_tunnel_with_http_1_0(scene: Scene) -> None:
    """Without Host."""
    command = [programs.require("openssl"), "s_client", "-quiet", "-proxy", f"127.0.0.1:{scene.child.proxy_port}"]
    command += ["-CAfile", str(scene.trust / "ca.pem"), "-verify_return_error", "-servername", HOST]
    command += ["-connect", f"{HOST}:{scene.upstream.port}"]
    request = f"GET /api/hello HTTP/1.1\r\nHost: {HOST}:{scene.upstream.port}\r\nConnection: close\r\n\r\n"
    done = await asyncio.to_thread(
        subprocess.run, command, input=request.encode(), capture_output=True, check=False, timeout=120
    )
    assert done.stdout.startswith(b"HTTP/1.1 200 OK\r\n"), done.stderr


async def test_curl_shows_why_a_connect_was_refused(scene: Scene) -> None:
    """Its message contains only the status line."""
    command = [programs.require("curl"), "-q", "-sSv", "-x", f"http://crm:x@127.0.0.1:{scene.child.proxy_port}"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "https://evil.test/"], capture_output=True, text=True, check=False
    )
    assert "HTTP/1.1 403 target_denied: The target is outside the integration's policy" in done.stderr
    assert scene.upstream.connections == []
