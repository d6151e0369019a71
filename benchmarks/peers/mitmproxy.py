"""mitmproxy, which terminates TLS of tunnels as Sidekey does, with a certificate for each host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import benchmarks
from benchmarks.peers.base import Installed, Job
from benchmarks.probe import AUTHORIZATION
from benchmarks.upstream import HOST

_ENVIRONMENT = Path(benchmarks.__file__).parent.parent / "tests" / "peers" / "mitmproxy" / ".venv" / "bin"

# The name stays for SNI and for verification. The request that checks comes without a tunnel.
_ADDON = """
def server_connect(data):
    data.server.address = ("127.0.0.1", {port})

def requestheaders(flow):
    request = flow.request
    if request.scheme == "http":
        request.scheme, request.host, request.port = "https", {host!r}, {port}
    request.headers["Authorization"] = {authorization!r}
"""
_SETTINGS = {
    # As Sidekey: no connection to the upstream before there is a request, nor a look at its certificate.
    "connection_strategy": "lazy",
    "upstream_cert": "false",
    "http2": "false",
    "flow_detail": "0",
}


@dataclass(frozen=True, slots=True)
class Mitmproxy(Installed):
    """mitmdump without output."""

    name: ClassVar[str] = "mitmproxy"

    def program(self) -> str | None:
        """Return the program of an environment of its own: its requirements conflict with the project's."""
        path = _ENVIRONMENT / "mitmdump"
        return str(path) if path.exists() else None

    def version(self) -> list[str]:
        """The command that prints its version."""
        return [self.program() or self.name, "--version"]

    def command(self, job: Job) -> list[str]:
        """Write the addon that adds the credential, and run it in the foreground."""
        addon = job.folder / "addon.py"
        upstream = job.upstream
        text = _ADDON.format(host=HOST, port=upstream.port, authorization=AUTHORIZATION)
        addon.write_text(text, encoding="utf-8")
        settings = {**_SETTINGS, "confdir": str(job.folder), "ssl_verify_upstream_trusted_ca": str(upstream.ca)}
        command = [self.program() or self.name, "--quiet", "--listen-host", "127.0.0.1", "--listen-port", str(job.port)]
        return [*command, "-s", str(addon), *(part for pair in settings.items() for part in ("--set", "=".join(pair)))]

    def path(self, rest: str) -> str:
        """Return the complete URL, because it has no reverse proxy."""
        return f"http://{HOST}/api/{rest}"
