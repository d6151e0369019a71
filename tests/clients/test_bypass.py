"""Clients that bypass a proxy whatever the variables say, without a word: their requests arrive without a credential.

The upstream has an address that NO_PROXY does not name, and a certificate that the service trusts besides, so that
nothing fails.
"""

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
from support.child import Child, run_process
from support.client_upstream import GOT, ClientUpstream
from support.clients import OF_NPM, SERVICES
from support.private_ca import Authority

ADDRESS = "127.0.0.2"
STRIPE = str(OF_NPM / "with_stripe.mjs")


@dataclass(frozen=True, slots=True)
class Scene:
    """Sidekey, its upstream, and the environment of whoever runs `exec`."""

    child: Child
    upstream: ClientUpstream
    environment: dict[str, str]
    folder: Path

    @property
    def base(self) -> str:
        """What the integration covers."""
        return f"https://{ADDRESS}:{self.upstream.port}"

    @property
    def reverse(self) -> str:
        """The same at the reverse proxy."""
        return f"http://127.0.0.1:{self.child.proxy_port}/i/crm"

    def run(self, *command: str) -> tuple[int, str, str]:
        """Exit status, output and errors of a service behind `sidekey exec`."""
        done = run_process("exec", "crm", "--", *command, environment=self.environment)
        return done.returncode, done.stdout.strip(), done.stderr

    def arrived(self) -> list[list[str]]:
        """The Authorization of each request that has arrived since this was asked."""
        found = [request.values("authorization") for request in self.upstream.arrived]
        self.upstream.forget()
        return found


@pytest.fixture(scope="module")
def scene(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Without callers; whoever runs `exec` trusts the upstream's CA already."""
    folder = tmp_path_factory.mktemp("bypass")
    network = f'network: {{trusted_ca: {{file: {ca.bundle}}}, allow_private: ["127.0.0.0/8"]}}'
    more = f"{network}\nca: {{folder: {folder / 'state'}}}"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    environment |= {"NODE_EXTRA_CA_CERTS": str(ca.bundle), "SSL_CERT_FILE": str(ca.bundle)}
    with (
        ClientUpstream(folder, ca.server_context(ADDRESS), ADDRESS) as upstream,
        Child(config(f"https://{ADDRESS}:{upstream.port}", more), folder, head=HEAD) as child,
    ):
        environment["SIDEKEY_CONFIG"] = str(child.config)
        yield Scene(child, upstream, environment, folder)


THROUGH = [[AUTHORIZATION.decode()]]


def old_node() -> str:
    """Node before 24, as Debian 13 has it; the packages that run on it are installed along with Node 24."""
    programs.require("node24")
    node = programs.require("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) >= 24:
        pytest.skip(f"the Node of this machine uses a proxy: {version}")
    return node


def node(version: str) -> str:
    """Node before 24 where it is to be the old one, else 24."""
    return old_node() if version == "old" else programs.require("node24")


@pytest.mark.parametrize("program", ["with_fetch.mjs", "with_https.mjs"])
def test_node_before_24_bypasses_a_proxy(program: str, scene: Scene) -> None:
    """Where version 24 does not."""
    for version, arrived in (("old", [[]]), ("24", THROUGH)):
        status, output, errors = scene.run(
            node(version), str(SERVICES / program), f"{scene.base}/api", os.devnull, "get"
        )
        assert (status, output) == (0, f"get {GOT.decode()}"), errors
        assert scene.arrived() == arrived


@pytest.mark.parametrize("version", ["old", "24"])
def test_an_agent_of_a_librarys_own_bypasses_a_proxy(version: str, scene: Scene) -> None:
    """stripe-node sends what it was told to be its key, past Sidekey."""
    status, output, errors = scene.run(node(version), STRIPE, scene.base, "default")
    assert (status, output) == (0, "get balance"), errors
    assert scene.arrived() == [["Bearer any word"]]


@pytest.mark.parametrize("way", ["fetch", "proxyEnv"])
def test_two_ways_make_stripe_node_use_the_proxy_on_node_24(way: str, scene: Scene) -> None:
    """fetch instead of an agent, or an agent that reads the variables."""
    status, output, errors = scene.run(node("24"), STRIPE, scene.base, way)
    assert (status, output) == (0, "get balance"), errors
    assert scene.arrived() == THROUGH


def test_aiohttp_without_trust_env_bypasses_a_proxy(scene: Scene) -> None:
    """With it, it does not."""
    for program, arrived in (("without_trust_env.py", [[]]), ("with_aiohttp.py", THROUGH)):
        status, output, errors = scene.run(
            sys.executable, str(SERVICES / program), f"{scene.base}/api", os.devnull, "get"
        )
        assert (status, output) == (0, f"get {GOT.decode()}"), errors
        assert scene.arrived() == arrived


URLLIB3 = "import sys, urllib3; print('get', urllib3.request('GET', sys.argv[1]).data.decode())"


def test_urllib3_without_a_proxy_manager_bypasses_a_proxy(scene: Scene) -> None:
    """It reads no variable of a proxy."""
    status, output, errors = scene.run(sys.executable, "-c", URLLIB3, f"{scene.base}/api/small")
    assert (status, output) == (0, f"get {GOT.decode()}"), errors
    assert scene.arrived() == [[]]


def test_stripe_python_needs_ca_bundle_path(scene: Scene) -> None:
    """It uses the proxy, but trusts no CA that a variable names."""
    program = [sys.executable, str(SERVICES / "with_stripe.py"), scene.base]
    status, _, errors = scene.run(*program)
    assert status != 0
    assert "SSL certificate" in errors
    assert scene.arrived() == []
    status, output, errors = scene.run(*program, str(scene.folder / "state" / "trust" / "bundle.pem"))
    assert (status, output) == (0, "get balance"), errors
    assert scene.arrived() == THROUGH


@pytest.mark.parametrize("client", ["fetch", "stripe-node", "aiohttp", "stripe-python"])
def test_the_reverse_proxy_serves_all_of_them(client: str, scene: Scene) -> None:
    """By a base URL in their configuration, and with no variable."""
    commands: dict[str, Sequence[str]] = {
        "aiohttp": (sys.executable, str(SERVICES / "without_trust_env.py"), f"{scene.reverse}/api", os.devnull, "get"),
        "stripe-python": (sys.executable, str(SERVICES / "with_stripe.py"), scene.reverse),
    }
    if client in ("fetch", "stripe-node"):
        commands["fetch"] = (old_node(), str(SERVICES / "with_fetch.mjs"), f"{scene.reverse}/api", os.devnull, "get")
        commands["stripe-node"] = (old_node(), STRIPE, scene.reverse, "reverse")
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(commands[client], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("get ")) == (0, True), done.stderr
    assert scene.arrived() == THROUGH
