"""The HTTP clients that services use, each as a program of its own: it prints the response's body and status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support import peers
from support.clients import SERVICES
from support.java import QUICKLY
from support.once import once

PROGRAMS = Path(__file__).parent / "programs"
NAMES = ("curl", "requests", "httpx", "aiohttp", "go", "java", "node")
_PROXY_VARIABLES = (
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
)
_GO_QUICKLY = ("-gcflags=all=-l", "-ldflags=-s -w")


@dataclass(frozen=True, slots=True)
class Client:
    """A client by its command; `post` sends `{"n": 1}`."""

    name: str
    command: tuple[str, ...]

    def post(self, url: str, variables: Mapping[str, str] | None = None, integration: str | None = None) -> str:
        """Send with these proxy variables alone, and X-Integration-Id where there is an ID; returns "BODY STATUS"."""
        variables = variables or {}
        environment = {name: value for name, value in os.environ.items() if name not in _PROXY_VARIABLES}
        arguments = [url, *([integration] if integration else [])]
        if self.name == "curl":
            arguments = ["-H", f"X-Integration-Id: {integration}", url] if integration else [url]
        command = [*self.command, *arguments]
        if self.name == "java":
            command[1:1] = _java_properties(variables)
        result = subprocess.run(
            command, env=environment | dict(variables), capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


def _java_properties(variables: Mapping[str, str]) -> list[str]:
    """Java reads no variables: the same as system properties."""
    proxy = urlsplit(variables.get("http_proxy", ""))
    if not proxy.hostname:
        return []
    properties = [f"-Dhttp.proxyHost={proxy.hostname}", f"-Dhttp.proxyPort={proxy.port}"]
    return [*properties, f"-Dproxy.user={proxy.username}"] if proxy.username else properties


def _build_go(source: Path, folder: Path) -> None:
    """Compile a Go program without a network."""
    program = folder / source.stem
    offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GO111MODULE": "off", "CGO_ENABLED": "0"}
    environment = {"GOCACHE": str(folder / "cache")} if "HOME" not in os.environ else {}
    subprocess.run(
        # Without inlining, symbols and debug information: where nothing is cached, Go compiles its library first.
        [peers.require("go"), "build", *_GO_QUICKLY, "-o", str(program), str(source)],
        env={**os.environ, **offline, **environment},
        capture_output=True,
        check=True,
    )


@pytest.fixture(scope="session")
def go_programs(of_the_run: Path) -> Path:
    """The client and the service in Go, compiled once."""

    def build(folder: Path) -> None:
        for source in (PROGRAMS / "client.go", SERVICES / "cases.go"):
            _build_go(source, folder)

    return once(of_the_run / "go", build)


@pytest.fixture(scope="session")
def go_program(go_programs: Path) -> str:
    """The Go client."""
    return str(go_programs / "client")


@pytest.fixture(scope="session")
def go_service(go_programs: Path) -> str:
    """The service in Go."""
    return str(go_programs / "cases")


@pytest.fixture(scope="session")
def java_classes(of_the_run: Path) -> str:
    """The programs in Java, compiled once: `java Client.java` compiles it for each start."""
    sources = [PROGRAMS / "Client.java", PROGRAMS / "Handshake.java", SERVICES / "Cases.java"]

    def build(folder: Path) -> None:
        subprocess.run([peers.require("javac"), "-d", folder, *sources], check=True)

    return str(once(of_the_run / "java", build))


@pytest.fixture(params=NAMES)
def client(request: pytest.FixtureRequest) -> Client:
    """Each client in turn; skipped where its peer is missing."""
    name: str = request.param
    if name == "curl":
        options = ["-q", "-sS", "--max-time", "60", "--json", '{"n": 1}', "-w", " %{http_code}"]
        return Client(name, (peers.require("curl"), *options))
    if name == "go":
        return Client(name, (request.getfixturevalue("go_program"),))
    if name == "java":
        return Client(name, (peers.require("java"), *QUICKLY, "-cp", request.getfixturevalue("java_classes"), "Client"))
    if name == "node":
        return Client(name, (peers.require("node"), str(PROGRAMS / "client.mjs")))
    return Client(name, (sys.executable, str(PROGRAMS / f"with_{name}.py")))
