"""The HTTP clients that services use, each as a program that prints the body and status of its response."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support import programs
from support.clients import SERVICES
from support.compiled import go_program, java_programs

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


@dataclass(frozen=True, slots=True)
class Client:
    """A client and its command. `post` sends `{"n": 1}`."""

    name: str
    command: tuple[str, ...]

    def post(self, url: str, variables: Mapping[str, str] | None = None, integration: str | None = None) -> str:
        """Send with these proxy variables, and with X-Integration-Id if there is an ID. Return "BODY STATUS"."""
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
    """Convert the variables to system properties, because Java reads no variables."""
    proxy = urlsplit(variables.get("http_proxy", ""))
    if not proxy.hostname:
        return []
    properties = [f"-Dhttp.proxyHost={proxy.hostname}", f"-Dhttp.proxyPort={proxy.port}"]
    return [*properties, f"-Dproxy.user={proxy.username}"] if proxy.username else properties


@pytest.fixture(scope="session")
def go_client(compiled: Path) -> str:
    """Compile the client in Go."""
    return go_program(compiled, PROGRAMS / "client.go")


@pytest.fixture(scope="session")
def go_service(compiled: Path) -> str:
    """Compile the service in Go."""
    return go_program(compiled, SERVICES / "cases.go")


@pytest.fixture(scope="session")
def java(compiled: Path) -> tuple[str, ...]:
    """Return the command that runs a Java program."""
    return java_programs(compiled)


@pytest.fixture(params=NAMES)
def client(request: pytest.FixtureRequest) -> Client:
    """Return each client in turn. Skip it if its program is missing."""
    name: str = request.param
    if name == "curl":
        options = ["-q", "-sS", "--max-time", "60", "--json", '{"n": 1}', "-w", " %{http_code}"]
        return Client(name, (programs.require("curl"), *options))
    if name == "go":
        return Client(name, (request.getfixturevalue("go_client"),))
    if name == "java":
        return Client(name, (*request.getfixturevalue("java"), "Client"))
    if name == "node":
        return Client(name, (programs.require("node"), str(PROGRAMS / "client.mjs")))
    return Client(name, (sys.executable, str(PROGRAMS / f"with_{name}.py")))
