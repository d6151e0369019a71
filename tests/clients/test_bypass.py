"""Clients that ignore the proxy variables: their requests bypass Sidekey without an error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from clients.test_clients import AUTHORIZATION, HEAD, config
from support import programs
from support.client_upstream import GOT, ClientUpstream
from support.clients import OF_NPM, SERVICES
from support.private_ca import Authority
from support.sidekey_process import SidekeyProcess, run_process

ADDRESS = "127.0.0.2"
STRIPE = str(OF_NPM / "with_stripe.mjs")


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey, its upstream, and the environment of `sidekey exec`."""

    child: SidekeyProcess
    upstream: ClientUpstream
    environment: dict[str, str]
    folder: Path

    @property
    def base(self) -> str:
        """Base URL of the integration."""
        return f"https://{ADDRESS}:{self.upstream.port}"

    @property
    def reverse(self) -> str:
        """The same URL at the reverse proxy."""
        return f"http://127.0.0.1:{self.child.proxy_port}/i/crm"

    def run(self, *command: str) -> tuple[int, str, str]:
        """Run a service under `sidekey exec`. Return exit status, output and errors."""
        done = run_process("exec", "crm", "--", *command, environment=self.environment)
        return done.returncode, done.stdout.strip(), done.stderr

    def received(self) -> list[list[str]]:
        """Return the Authorization of each request since the last call."""
        selected = [request.values("authorization") for request in self.upstream.received]
        self.upstream.reset()
        return selected


@pytest.fixture(scope="module")
def scene(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A Sidekey without callers. The environment trusts the upstream's CA."""
    folder = tmp_path_factory.mktemp("bypass")
    network = f'network: {{trusted_ca: {{file: {ca.bundle}}}, allow_private: ["127.0.0.0/8"]}}'
    more = f"{network}\nca: {{folder: {folder / 'state'}}}"
    environment = {"PATH": os.defpath, "HOME": str(folder)}
    environment |= {"NODE_EXTRA_CA_CERTS": str(ca.bundle), "SSL_CERT_FILE": str(ca.bundle)}
    with (
        ClientUpstream(folder, ca.server_context(ADDRESS), ADDRESS) as upstream,
        SidekeyProcess(config(f"https://{ADDRESS}:{upstream.port}", more), folder, head=HEAD) as child,
    ):
        environment["SIDEKEY_CONFIG"] = str(child.config)
        yield Scene(child, upstream, environment, folder)


THROUGH = [[AUTHORIZATION.decode()]]


def old_node() -> str:
    """Node before 24, as in Debian 13. The packages that run on it are installed along with Node 24."""
    programs.require_npm("clients")
    node = programs.require("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) >= 24:
        pytest.skip(f"the Node of this machine uses a proxy: {version}")
    return node


def node(version: str) -> str:
    """Return an old Node if the test needs one, else Node 24."""
    return old_node() if version == "old" else programs.require("node24")


@pytest.mark.parametrize("program", ["with_fetch.mjs", "with_https.mjs"])
def test_node_before_24_bypasses_a_proxy(program: str, scene: Scene) -> None:
    """Node 24 uses it."""
    for version, expected in (("old", [[]]), ("24", THROUGH)):
        status, output, errors = scene.run(
            node(version), str(SERVICES / program), f"{scene.base}/api", os.devnull, "get"
        )
        assert (status, output) == (0, f"get {GOT.decode()}"), errors
        assert scene.received() == expected


@pytest.mark.parametrize("version", ["old", "24"])
def test_agent_of_a_library_bypasses_a_proxy(version: str, scene: Scene) -> None:
    """stripe-node sends the API key of its configuration, past Sidekey."""
    status, output, errors = scene.run(node(version), STRIPE, scene.base, "default")
    assert (status, output) == (0, "get balance"), errors
    assert scene.received() == [["Bearer any word"]]


@pytest.mark.parametrize("way", ["fetch", "proxyEnv"])
def test_two_ways_make_stripe_node_use_the_proxy_on_node_24(way: str, scene: Scene) -> None:
    """fetch instead of an agent, or an agent that reads the variables."""
    status, output, errors = scene.run(node("24"), STRIPE, scene.base, way)
    assert (status, output) == (0, "get balance"), errors
    assert scene.received() == THROUGH


def test_aiohttp_without_trust_env_bypasses_a_proxy(scene: Scene) -> None:
    """With trust_env, it uses the proxy."""
    for program, expected in (("without_trust_env.py", [[]]), ("with_aiohttp.py", THROUGH)):
        status, output, errors = scene.run(
            sys.executable, str(SERVICES / program), f"{scene.base}/api", os.devnull, "get"
        )
        assert (status, output) == (0, f"get {GOT.decode()}"), errors
        assert scene.received() == expected


URLLIB3 = "import sys, urllib3; print('get', urllib3.request('GET', sys.argv[1]).data.decode())"


def test_urllib3_without_a_proxy_manager_bypasses_a_proxy(scene: Scene) -> None:
    """It reads no variable of a proxy."""
    status, output, errors = scene.run(sys.executable, "-c", URLLIB3, f"{scene.base}/api/small")
    assert (status, output) == (0, f"get {GOT.decode()}"), errors
    assert scene.received() == [[]]


def test_stripe_python_needs_ca_bundle_path(scene: Scene) -> None:
    """It uses the proxy, but trusts no CA from a variable."""
    program = [sys.executable, str(SERVICES / "with_stripe.py"), scene.base]
    status, _, errors = scene.run(*program)
    assert status != 0
    assert "SSL certificate" in errors
    assert scene.received() == []
    status, output, errors = scene.run(*program, str(scene.folder / "state" / "trust" / "bundle.pem"))
    assert (status, output) == (0, "get balance"), errors
    assert scene.received() == THROUGH


@pytest.mark.parametrize("client", ["fetch", "stripe-node", "aiohttp", "stripe-python"])
def test_reverse_proxy_serves_all_bypassing_clients(client: str, scene: Scene) -> None:
    """With a base URL in their configuration, and no variable."""
    commands: dict[str, Sequence[str]] = {
        "aiohttp": (sys.executable, str(SERVICES / "without_trust_env.py"), f"{scene.reverse}/api", os.devnull, "get"),
        "stripe-python": (sys.executable, str(SERVICES / "with_stripe.py"), scene.reverse),
    }
    if client in ("fetch", "stripe-node"):
        commands["fetch"] = (old_node(), str(SERVICES / "with_fetch.mjs"), f"{scene.reverse}/api", os.devnull, "get")
        commands["stripe-node"] = (old_node(), STRIPE, scene.reverse, "reverse")
    environment = {"PATH": os.defpath}
    done = subprocess.run(commands[client], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("get ")) == (0, True), done.stderr
    assert scene.received() == THROUGH
