"""`sidekey exec` with real, unchanged clients: an https URL reaches the upstream with the credential."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from clients.conftest import Client
from clients.test_clients import AUTHORIZATION, HEAD, HOST, NETWORK, config
from support import programs
from support.private_ca import Authority
from support.sidekey_process import SidekeyProcess, run_process
from support.upstream import RawUpstream

TOKEN = "t%41 @:/?#[]'\"$(id)`+{}|\\"
"""A caller's token with all that a URL, or a shell, could misread."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey in front of an https upstream that records every byte, and the environment of `sidekey exec`."""

    child: SidekeyProcess
    upstream: RawUpstream
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """Base URL of the integration."""
        return f"https://{HOST}:{self.upstream.port}/api"

    async def exec(self, *arguments: str, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `sidekey exec` with these arguments."""
        environment = {**self.environment, **(more or {})}
        return await asyncio.to_thread(run_process, "exec", *arguments, environment=environment)

    def assert_carried(self) -> None:
        """Assert that every request has the credential, and nothing meant for Sidekey."""
        assert self.upstream.requests
        for request in self.upstream.requests:
            assert request.values(b"authorization") == [AUTHORIZATION]
            assert request.values(b"host") == [f"{HOST}:{self.upstream.port}".encode()]
            assert request.values(b"proxy-authorization") == request.values(b"sidekey-token") == []


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """A running Sidekey whose callers need TOKEN."""
    folder = tmp_path_factory.mktemp("exec")
    home = folder / "a home"
    home.mkdir()
    (folder / "token").write_text(f"{TOKEN}\n")
    network = NETWORK.replace("{", f"{{trusted_ca: {{file: {ca.bundle}}}, ", 1)
    more = f"{network}\nforward: {{match_by_host: true}}\nca: {{folder: {folder / 'the state'}}}"
    more += "\ncallers: {billing: {token: {file: token}, integrations: [crm]}}"
    environment = {"PATH": os.defpath, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    async with RawUpstream(ssl_context=ca.server_context(HOST)) as upstream:
        with SidekeyProcess(config(f"https://{HOST}:{upstream.port}/api", more), folder, head=HEAD) as child:
            environment["SIDEKEY_CONFIG"] = str(child.config)
            yield Scene(child, upstream, folder, environment)


@pytest_asyncio.fixture(loop_scope="module")
async def scene(shared: Scene) -> Scene:
    """The shared scene, without recorded requests."""
    await shared.upstream.reset()
    return shared


@pytest.mark.parametrize("client", ["curl", "requests", "httpx", "aiohttp", "go"], indirect=True)
async def test_client_posts_by_host_with_the_token_of_its_caller(client: Client, scene: Scene) -> None:
    """curl, requests, httpx, aiohttp, Go: the proxy user is `-`. test_services.py has all clients by name."""
    command = [*client.command, f"{scene.base}/hello?a=1"]
    done = await scene.exec("--by-host", "--", *command, more={"SIDEKEY_TOKEN": TOKEN})
    assert (done.returncode, done.stdout.strip()) == (0, "ok 200"), done.stderr
    (request,) = scene.upstream.requests
    assert (request.method, request.target, json.loads(request.body)) == (b"POST", b"/api/hello?a=1", {"n": 1})
    scene.assert_carried()


@pytest.mark.parametrize("kept", [True, False], ids=["with certificates of its own", "with none"])
async def test_service_still_trusts_its_roots(kept: bool, ca: Authority, scene: Scene) -> None:
    """It calls an upstream that only those roots verify, past Sidekey."""
    curl = [programs.require("curl"), "-q", "-sS", "--resolve", f"{HOST}:{scene.upstream.port}:127.0.0.1"]
    more = {"SIDEKEY_TOKEN": TOKEN}
    if kept:
        more["CURL_CA_BUNDLE"] = str(ca.bundle)
    through = await scene.exec("crm", "--", *curl, f"{scene.base}/hello", more=more)
    assert (through.returncode, through.stdout) == (0, "ok"), through.stderr
    scene.assert_carried()
    past = await scene.exec("crm", "--", *curl, f"{scene.base}/hello", more={**more, "no_proxy": HOST})
    assert (past.returncode == 0) is kept, past.stderr


async def test_options_instead_of_a_config(scene: Scene) -> None:
    """The container of a service has only the trust folder."""
    way = [
        "--proxy",
        f"http://127.0.0.1:{scene.child.proxy_port}",
        "--trust",
        str(scene.folder / "the state" / "trust"),
    ]
    curl = [programs.require("curl"), "-q", "-sS", f"{scene.base}/hello"]
    more = {"SIDEKEY_TOKEN": TOKEN, "SIDEKEY_CONFIG": "/nowhere"}
    done = await scene.exec(*way, "crm", "--", *curl, more=more)
    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    scene.assert_carried()


async def test_command_replaces_the_process(scene: Scene) -> None:
    """It keeps process ID, signals and exit status, without limits or ignored signals of Sidekey or Python."""
    # A shell that runs the tests in its background has them ignore signals, which every process inherits.
    inherited = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True)
    raised = 'ulimit -S -c "$(ulimit -H -c)"; exec "$@"'
    script = "echo $$; ulimit -S -c; ulimit -H -c; grep SigIgn /proc/self/status; kill -TERM $$"
    process = subprocess.Popen(
        ["sh", "-c", raised, "sh", sys.executable, "-m", "sidekey", "exec", "crm", "--", "sh", "-c", script],
        env={**scene.environment, "SIDEKEY_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    output, _ = await asyncio.to_thread(process.communicate)
    number, soft, hard, ignored = output.splitlines()
    assert (int(number), soft, ignored) == (process.pid, hard, inherited.stdout.strip())
    assert process.returncode == -signal.SIGTERM


async def test_token_is_only_in_the_environment(scene: Scene) -> None:
    """Neither in the command line nor in the output."""
    (scene.folder / "another").write_text("secret-4711")
    script = 'tr "\\0" " " < /proc/$$/cmdline; [ "${HTTPS_PROXY#http://crm:secret-}" = "$((4700 + 11))@127.0.0.1:$0" ]'
    token = ["--token-file", str(scene.folder / "another")]
    done = await scene.exec("crm", *token, "--", "sh", "-c", script, str(scene.child.proxy_port))
    assert done.returncode == 0
    assert "sh -c tr" in done.stdout
    assert "4711" not in done.stdout + done.stderr
