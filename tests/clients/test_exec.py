"""`sidekey exec` with real clients, unchanged: an https URL reaches the upstream with the credential."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clients.conftest import Client
from clients.test_clients import AUTHORIZATION, HEAD, HOST, NETWORK, config
from support import peers
from support.ca import Authority
from support.child import Child
from support.raw import RawConnection
from support.upstream import RawUpstream

pytestmark = pytest.mark.timeout(180)

TOKEN = "t%41 @:/?#[]'\"$(id)`+{}|\\"
"""A caller's token with all that a URL, or a shell, could misread."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def wheel() -> bytes:
    """The smallest package that pip takes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("demo-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1\n")
        archive.writestr("demo-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("demo-1.dist-info/RECORD", "")
    return file.getvalue()


FILES = {
    b"/api/repo.git/info/refs": f"{COMMIT}\trefs/heads/main\n".encode(),
    b"/api/repo.git/HEAD": b"ref: refs/heads/main\n",
    b"/api/simple/demo/": b"<!DOCTYPE html><a href='demo-1-py3-none-any.whl'>demo-1-py3-none-any.whl</a>",
    b"/api/simple/demo/demo-1-py3-none-any.whl": wheel(),
}


async def serve(connection: RawConnection) -> None:
    """Respond to GET with a file, to whatever else with "ok"."""
    while True:
        request = await connection.request()
        content = FILES.get(request.target.partition(b"?")[0], b"ok")
        kind = b"text/html" if content.startswith(b"<") else b"text/plain"
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(content), content)
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey in front of an https upstream that keeps every byte, and the environment of whoever runs `exec`."""

    child: Child
    upstream: RawUpstream
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """What the integration covers."""
        return f"https://{HOST}:{self.upstream.port}/api"

    async def exec(self, *arguments: str, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `sidekey exec` with these arguments."""
        command = [sys.executable, "-m", "sidekey", "exec", *arguments]
        environment = {**self.environment, **(more or {})}
        return await asyncio.to_thread(
            subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=100
        )

    def assert_carried(self) -> None:
        """Every request that arrived has the credential, and nothing that was between the caller and Sidekey."""
        assert self.upstream.requests
        for request in self.upstream.requests:
            assert request.values(b"authorization") == [AUTHORIZATION]
            assert request.values(b"host") == [f"{HOST}:{self.upstream.port}".encode()]
            assert request.values(b"proxy-authorization") == request.values(b"sidekey-token") == []


@pytest.fixture(params=["callers"])
async def scene(request: pytest.FixtureRequest, ca: Authority, tmp_path: Path) -> AsyncIterator[Scene]:
    """With the parameter `callers` a caller needs TOKEN; with `none` nobody does."""
    home = tmp_path / "a home"
    home.mkdir()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    network = NETWORK.replace("{", f"{{trusted_ca: {{file: {ca.bundle}}}, ", 1)
    more = f"{network}\nforward: {{match_by_host: true}}\nca: {{folder: {tmp_path / 'the state'}}}"
    if request.param == "callers":
        more += "\ncallers: {billing: {token: {file: token}, integrations: [crm]}}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    async with RawUpstream(serve, ssl_context=ca.server_context(HOST)) as upstream:
        with Child(config(f"https://{HOST}:{upstream.port}/api", more), tmp_path, head=HEAD) as child:
            environment["SIDEKEY_CONFIG"] = str(child.config)
            yield Scene(child, upstream, tmp_path, environment)


@pytest.mark.parametrize("client", ["curl", "requests", "httpx", "aiohttp", "go"], indirect=True)
@pytest.mark.parametrize("how", [["crm"], ["--by-host"]], ids=["by name", "by host"])
async def test_a_client_posts_with_its_callers_token(client: Client, how: list[str], scene: Scene) -> None:
    """curl, requests, httpx, aiohttp, Go: each decodes the password, whatever is in it."""
    done = await scene.exec(*how, "--", *client.command, f"{scene.base}/hello?a=1", more={"SIDEKEY_TOKEN": TOKEN})
    assert (done.returncode, done.stdout.strip()) == (0, "ok 200"), done.stderr
    (request,) = scene.upstream.requests
    assert (request.method, request.target, json.loads(request.body)) == (b"POST", b"/api/hello?a=1", {"n": 1})
    scene.assert_carried()


URLLIB = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


@pytest.mark.parametrize("name", ["wget", "urllib"])
async def test_a_client_gets(name: str, scene: Scene) -> None:
    """Debian's wget (GnuTLS) by WGETRC, Python's urllib by SSL_CERT_FILE; the token by a file."""
    command = [peers.require("wget"), "-q", "-O", "-"] if name == "wget" else [sys.executable, "-c", URLLIB]
    token = ["--token-file", str(scene.folder / "token")]
    done = await scene.exec(*token, "crm", "--", *command, f"{scene.base}/hello")
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
    scene.assert_carried()


async def test_git_lists_a_repository(scene: Scene) -> None:
    """It names the integration once it is asked, by a 407."""
    command = [peers.require("git"), "ls-remote", f"{scene.base}/repo.git"]
    done = await scene.exec("crm", "--", *command, more={"SIDEKEY_TOKEN": TOKEN})
    assert (done.returncode, done.stdout) == (0, f"{COMMIT}\tHEAD\n{COMMIT}\trefs/heads/main\n"), done.stderr
    scene.assert_carried()


async def test_pip_downloads_from_an_index(scene: Scene) -> None:
    """By PIP_CERT."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--index-url", f"{scene.base}/simple/", "--dest", str(scene.folder / "got"), "demo"]
    more = {"SIDEKEY_TOKEN": TOKEN, "PIP_CONFIG_FILE": os.devnull}
    done = await scene.exec("crm", "--", *command, more=more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (scene.folder / "got" / "demo-1-py3-none-any.whl").read_bytes() == FILES[
        b"/api/simple/demo/demo-1-py3-none-any.whl"
    ]
    scene.assert_carried()


async def test_npm_asks_a_registry(scene: Scene) -> None:
    """By npm_config_cafile, on whatever Node it runs."""
    done = await scene.exec(
        "crm", "--", peers.require("npm"), "ping", "--registry", f"{scene.base}/npm/", more={"SIDEKEY_TOKEN": TOKEN}
    )
    assert done.returncode == 0, done.stderr
    assert scene.upstream.requests[0].target.startswith(b"/api/npm/-/ping")
    scene.assert_carried()


@pytest.mark.parametrize("scene", ["none"], indirect=True)
async def test_java_sends_by_host(java_classes: str, scene: Scene) -> None:
    """It sends no user unasked, so this is for Sidekeys without callers; a space in the trust folder is quoted."""
    command = [peers.require("java"), "-cp", java_classes, "Client", f"{scene.base}/hello?a=1"]
    done = await scene.exec("--by-host", "--java", "--", *command)
    assert (done.returncode, done.stdout.strip()) == (0, "ok 200"), done.stderr
    assert "the state/trust/truststore.p12" in done.stderr
    scene.assert_carried()


@pytest.mark.parametrize("client", ["node"], indirect=True)
async def test_node_is_told_to_use_the_proxy(client: Client, scene: Scene) -> None:
    """From version 24 it does; an older one bypasses it, so that it is only told."""
    node = client.command[0]
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) >= 24:
        done = await scene.exec("crm", "--", *client.command, f"{scene.base}/hello?a=1", more={"SIDEKEY_TOKEN": TOKEN})
        assert (done.returncode, done.stdout.strip()) == (0, "ok 200"), done.stderr
        scene.assert_carried()
        return
    show = "console.log(JSON.stringify([process.env.NODE_USE_ENV_PROXY, process.env.NODE_EXTRA_CA_CERTS]))"
    done = await scene.exec("crm", "--", node, "-e", show, more={"SIDEKEY_TOKEN": TOKEN})
    assert json.loads(done.stdout) == ["1", str(scene.folder / "the state" / "trust" / "ca.pem")]


@pytest.mark.parametrize("kept", [True, False], ids=["with certificates of its own", "with none"])
async def test_what_a_service_trusted_it_still_trusts(kept: bool, ca: Authority, scene: Scene) -> None:
    """Here it goes past Sidekey to an upstream that only its own roots verify."""
    curl = [peers.require("curl"), "-q", "-sS", "--resolve", f"{HOST}:{scene.upstream.port}:127.0.0.1"]
    more = {"SIDEKEY_TOKEN": TOKEN}
    if kept:
        more["CURL_CA_BUNDLE"] = str(ca.bundle)
    through = await scene.exec("crm", "--", *curl, f"{scene.base}/hello", more=more)
    assert (through.returncode, through.stdout) == (0, "ok"), through.stderr
    scene.assert_carried()
    past = await scene.exec("crm", "--", *curl, f"{scene.base}/hello", more={**more, "no_proxy": HOST})
    assert (past.returncode == 0) is kept, past.stderr


async def test_options_instead_of_a_config(scene: Scene) -> None:
    """A service's container has the trust folder and nothing else of Sidekey's."""
    way = [
        "--proxy",
        f"http://127.0.0.1:{scene.child.proxy_port}",
        "--trust",
        str(scene.folder / "the state" / "trust"),
    ]
    curl = [peers.require("curl"), "-q", "-sS", f"{scene.base}/hello"]
    more = {"SIDEKEY_TOKEN": TOKEN, "SIDEKEY_CONFIG": "/nowhere"}
    done = await scene.exec(*way, "crm", "--", *curl, more=more)
    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    scene.assert_carried()


async def test_the_command_is_the_process(scene: Scene) -> None:
    """Its process ID, signals and exit status, and no limit or ignored signal that Sidekey or Python has for itself."""
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
    assert (int(number), soft, ignored) == (process.pid, hard, "SigIgn:\t0000000000000000")
    assert process.returncode == -signal.SIGTERM


async def test_the_token_is_in_the_environment_alone(scene: Scene) -> None:
    """Neither on the command's line nor printed."""
    (scene.folder / "another").write_text("secret-4711")
    script = 'tr "\\0" " " < /proc/$$/cmdline; [ "${HTTPS_PROXY#http://crm:secret-}" = "$((4700 + 11))@127.0.0.1:$0" ]'
    token = ["--token-file", str(scene.folder / "another")]
    done = await scene.exec("crm", *token, "--", "sh", "-c", script, str(scene.child.proxy_port))
    assert done.returncode == 0
    assert "sh -c tr" in done.stdout
    assert "4711" not in done.stdout + done.stderr
