"""Services with real, unchanged clients under `sidekey exec`: GET and POST, small and 10 MB, and server-sent events."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from clients.test_clients import AUTHORIZATION, HEAD, HOST, NETWORK, config
from clients.test_exec import TOKEN
from support import programs
from support.client_upstream import EVENTS, GOT, LARGE, SMALL, ClientUpstream
from support.clients import CLIENTS, ClientKind, record
from support.private_ca import Authority
from support.sidekey_process import SIDEKEY, SidekeyProcess, run_cli

ORDINARY = "an-ordinary-token"
"""For axios, which where Node does not do that does not decode the password."""

RECORD = "SIDEKEY_RECORD"

PROXIES = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"}
EXCLUDED = {"NO_PROXY", "no_proxy"}
NO_SETTINGS = {
    "PIP_CONFIG_FILE": os.devnull,
    "npm_config_globalconfig": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}
"""Disable settings files of this machine, which may configure proxies and CAs."""
FEW_TRIES = ("PIP_RETRIES=0", "npm_config_fetch_retries=0", "AWS_MAX_ATTEMPTS=1")
"""So that these tools give up at once where a variable that they need is absent."""
SWITCHES = {"NODE_USE_ENV_PROXY", "JAVA_TOOL_OPTIONS"}


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey in front of an upstream, and the environment of `sidekey exec`."""

    child: SidekeyProcess
    upstream: ClientUpstream
    environment: Mapping[str, str]
    large: Path

    @property
    def base(self) -> str:
        """Base URL of the integration."""
        return f"{self.upstream.scheme}://{HOST}:{self.upstream.port}/api"

    def exec(
        self, how: Iterable[str], command: Iterable[str], cases: Iterable[str], token: str = TOKEN
    ) -> tuple[int, list[str], str]:
        """Run a service, and send each event after the previous one. Return exit status, lines and errors."""
        arguments = ["exec", *how, "--", *command, self.base, str(self.large), *cases]
        lines = []
        with (
            subprocess.Popen(
                [*SIDEKEY, *arguments],
                env={**self.environment, "SIDEKEY_TOKEN": token},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
            ThreadPoolExecutor(1) as reading,
        ):
            assert process.stdout is not None
            assert process.stderr is not None
            errors = reading.submit(process.stderr.read)
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if line.startswith("events "):
                    self.upstream.seen()
            return process.wait(timeout=120), lines, errors.result()


@contextmanager
def scene_in(folder: Path, ca: Authority, more: str, *, tls: bool = True) -> Iterator[Scene]:
    """Run a Sidekey with its upstream. `more` is extra config."""
    (folder / "large").write_bytes(LARGE)
    home = folder / "a home"
    home.mkdir()
    network = NETWORK.replace("{", f"{{trusted_ca: {{file: {ca.bundle}}}, ", 1)
    more = f"{network}\nca: {{folder: {folder / 'the state'}}}\n{more}"
    environment = {"PATH": os.defpath, "HOME": str(home), **NO_SETTINGS}
    with ClientUpstream(folder, ca.server_context(HOST) if tls else None) as upstream:
        base = f"{upstream.scheme}://{HOST}:{upstream.port}/api"
        with SidekeyProcess(config(base, more), folder, head=HEAD) as child:
            yield Scene(child, upstream, {**environment, "SIDEKEY_CONFIG": str(child.config)}, folder / "large")


CALLERS = f"""\
callers:
  billing: {{token: {{insecure_value: {json.dumps(TOKEN)}}}, integrations: [crm]}}
  shipping: {{token: {{insecure_value: {ORDINARY}}}, integrations: [crm]}}
"""


@pytest.fixture(scope="module")
def named(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scene with callers, which name the integration."""
    with scene_in(tmp_path_factory.mktemp("named"), ca, CALLERS) as scene:
        yield scene


@pytest.fixture
def by_host(ca: Authority, tmp_path: Path) -> Iterator[Scene]:
    """A scene without callers, which finds the integration by host."""
    with scene_in(tmp_path, ca, "forward: {match_by_host: true}") as scene:
        yield scene


@pytest.fixture(params=CLIENTS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> ClientKind:
    """Return each client in turn. Skip it if its program is missing."""
    client: ClientKind = request.param
    if client.runtime in programs.PACKAGES or client.runtime in programs.FOLDERS:
        programs.require(client.runtime)
    return client


@pytest.fixture
def command(kind: ClientKind, request: pytest.FixtureRequest) -> list[str]:
    """Return the command that runs the service."""
    program = str(kind.path)
    if program.endswith(".go"):
        return [request.getfixturevalue("go_service")]
    if program.endswith(".java"):
        return [*request.getfixturevalue("java"), kind.path.stem]
    if program.endswith(".sh"):
        return ["env", f"PYTHON={sys.executable}", "sh", program]
    if program.endswith(".py"):
        return [sys.executable, program]
    runtime = programs.require(kind.runtime)
    return [runtime, "run", "--quiet", "--allow-all", program] if kind.runtime == "deno" else [runtime, program]


@pytest.fixture
def scene(kind: ClientKind, request: pytest.FixtureRequest) -> Scene:
    """Return the scene for the client, without recorded requests."""
    chosen: Scene = request.getfixturevalue("named" if kind.how[0] == "crm" else "by_host")
    chosen.upstream.reset()
    return chosen


def test_unchanged_service_uses_sidekey(kind: ClientKind, command: list[str], scene: Scene) -> None:
    """Every request arrives once, with the credential in place of the service's own. Every byte comes back."""
    status, lines, errors = scene.exec(kind.how, command, kind.requests)
    assert status == 0, errors
    assert lines == [line for case in kind.requests for line in expected(kind, case, scene.upstream)], errors
    assert_arrived(kind, scene.upstream)
    if os.environ.get(RECORD) == "1":
        record(kind, reads=list(reads(kind, command, scene)))


def assert_arrived(kind: ClientKind, upstream: ClientUpstream) -> None:
    """Assert that each request of the service has one credential, and nothing meant for Sidekey."""
    expected = [(method, f"/api/{path}") for requests in kind.requests.values() for method, path in requests]
    came = [(request.method, request.path) for request in upstream.received]
    assert set(expected) - set(came) == set()
    assert kind.tool or expected == came
    for request in upstream.received:
        assert request.values("authorization") == [AUTHORIZATION.decode()]
        assert request.values("host") == [f"{HOST}:{upstream.port}"]
        for name in ("proxy-authorization", "proxy-connection", "x-integration-id", "sidekey-token"):
            assert request.values(name) == []
    if kind.tool:
        return
    for case, content in (("post", SMALL), ("upload", LARGE)):
        body = sent(kind, case, upstream)
        assert body.count(content) == 1
        assert kind.wraps or body == content


def sent(kind: ClientKind, case: str, upstream: ClientUpstream) -> bytes:
    """Return the body of a case at the upstream."""
    ((method, path),) = kind.requests[case]
    bodies = (request for request in upstream.received if (request.method, request.path) == (method, f"/api/{path}"))
    return next(bodies).body


def expected(kind: ClientKind, case: str, upstream: ClientUpstream) -> list[str]:
    """Return the lines that a case prints after a complete response."""
    if case == "events":
        return [f"events {event}" for event in EVENTS]
    if case in kind.results:
        return [f"{case} {kind.results[case]}"]
    if case == "get":
        return [f"get {GOT.decode()}"]
    if case == "download":
        return [f"download {hashlib.sha256(LARGE).hexdigest()}"]
    if kind.name == "git":
        return [f"upload {pushed(upstream)}"]
    return [f"{case} {hashlib.sha256(sent(kind, case, upstream)).hexdigest()}"]


def pushed(upstream: ClientUpstream) -> str:
    """Return the ID of the 10 MB that git pushed."""
    repository = [programs.require("git"), "-C", str(upstream.repository)]
    content = subprocess.run([*repository, "show", "pushed:upload"], capture_output=True, check=True).stdout
    assert content == LARGE + b"more"
    result = subprocess.run([*repository, "rev-parse", "pushed:upload"], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def reads(kind: ClientKind, command: list[str], scene: Scene) -> Iterator[str]:
    """Return the variables that this client needs: with one of each purpose it works, without them it fails."""
    printed = run_cli("env", *kind.how, "--json", environment=scene.environment)
    variables = json.loads(printed.stdout).keys()

    def works(dropped: Iterable[str]) -> bool:
        scene.upstream.reset()
        without = ["env", *(word for name in sorted(dropped) for word in ("-u", name)), *FEW_TRIES]
        status, lines, _ = scene.exec(kind.how, [*without, *command], ["get"], ORDINARY)
        return bool(status == 0 and scene.upstream.received) and lines == expected(kind, "get", scene.upstream)

    for sort in (variables & PROXIES, variables - PROXIES - EXCLUDED - SWITCHES):
        if not works(sort):
            yield from (name for name in sorted(sort) if works(sort - {name}))
    yield from (name for name in sorted(variables & SWITCHES) if not works({name}))


@pytest.mark.parametrize("kind", [item for item in CLIENTS if item.plain], ids=lambda kind: kind.name, indirect=True)
def test_http_url_uses_sidekey_too(kind: ClientKind, command: list[str], ca: Authority, tmp_path: Path) -> None:
    """Node's fetch opens a tunnel to a port without TLS, as undici did before version 8."""
    with scene_in(tmp_path, ca, f"{CALLERS}log: {{access: all}}", tls=False) as scene:
        status, lines, errors = scene.exec(kind.how, command, kind.requests)
        assert status == 0, errors
        assert_arrived(kind, scene.upstream)
        assert lines == [line for case in kind.requests for line in expected(kind, case, scene.upstream)], errors
        assert scene.child.stop() == 0
    logged = [json.loads(line) for line in scene.child.lines if '"status":200' in line]
    doors = [line["door"] for line in logged if line["method"] != "CONNECT"]
    assert doors == [kind.plain] * len(scene.upstream.received)


def test_axios_works_with_an_old_node(named: Scene) -> None:
    """It reads the variables itself, so that Debian's Node is enough. It does not decode a token."""
    axios = next(kind for kind in CLIENTS if kind.package == "axios")
    programs.require(axios.runtime)
    command = [programs.require("node"), str(axios.path)]
    named.upstream.reset()
    status, lines, errors = named.exec(["crm"], command, axios.requests, ORDINARY)
    assert status == 0, errors
    assert_arrived(axios, named.upstream)
    assert lines == [line for case in axios.requests for line in expected(axios, case, named.upstream)], errors
    status, _, errors = named.exec(["crm"], command, ["get"], TOKEN)
    assert (status, "status code 407" in errors) == (1, True)
