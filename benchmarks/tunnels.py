"""Loads of tunnels, because wrk sends no CONNECT. The callers are a program in Go, tunnels.go."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from benchmarks.figures import P50, P99, RATE, Figure
from benchmarks.load import WARM_UP_SECONDS
from benchmarks.machine import find_program
from benchmarks.peers.sidekey import CA_FOLDER
from benchmarks.probe import AUTHORIZATION, CHECK
from benchmarks.processes import MeasureFailed

_SOURCE = Path(__file__).with_suffix(".go")
_OFFLINE = {"GO111MODULE": "off", "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "", "CGO_ENABLED": "0"}
_KEPT_UP = 0.8
"""The part of a rate that must be reached; a load of few seconds lasts longer by its last responses."""

_PATIENCE = 60
"""Seconds beyond those of the load itself."""


def build(folder: Path) -> Path:
    """Compile the callers into a folder. Raises MeasureFailed."""
    go = find_program("go")
    if go is None:
        raise MeasureFailed("go, which compiles the callers of tunnels, is not installed")
    program = folder / "tunnels"
    cache = {} if "HOME" in os.environ else {"GOCACHE": str(folder / "go-cache")}
    command = [go, "build", "-o", str(program), str(_SOURCE)]
    built = subprocess.run(
        command, env={**os.environ, **_OFFLINE, **cache}, capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise MeasureFailed(f"go build ended with status {built.returncode}: {built.stderr.strip()[-600:]}")
    return program


@dataclass(frozen=True, slots=True)
class Way:
    """How callers reach an upstream's base through a proxy. `{}` in `authority` is the number of a host.

    `roots` is the file of CAs that callers trust, below the job's folder. Without it they send plain HTTP. With a
    `user`, callers ask the proxy for a tunnel as that user. `{}` in it is the number of a group of `group` hosts.
    """

    authority: str
    base: str = "/api/"
    roots: str = ""
    user: str = ""
    group: int = 1

    @property
    def flags(self) -> list[str]:
        """Return the arguments of tunnels.go."""
        if self.user:
            return ["-user", self.user, "-group", str(self.group)]
        return ["-direct"] if self.roots else ["-plain"]


SIDEKEY_ROOTS = f"{CA_FOLDER}/trust/ca.pem"
MITMPROXY_ROOTS = "mitmproxy-ca-cert.pem"


@dataclass(frozen=True, slots=True)
class TunnelLoad:
    """1 KB POSTs by `connections` callers, over kept tunnels or, `once`, each over a new one.

    Tunnels are to `hosts` in turn, from number `first` on. `rate`, where it is not 0, is how many requests are due in a
    second; they are timed from then on.
    """

    program: Path
    way: Way
    connections: int = 32
    seconds: float = 2
    once: bool = False
    hosts: int = 1
    first: int = 0
    rate: float = 0
    limit: int | None = None

    def brief(self) -> Self:
        """The same load, long enough to warm up."""
        return replace(self, seconds=min(self.seconds, WARM_UP_SECONDS))

    def measure(
        self, port: int, path: str, folder: Path, fields: Mapping[str, str] | None = None
    ) -> tuple[int, dict[Figure, float]]:
        """Run the load. The `Way` decides where requests go. Raises MeasureFailed if one fails or the pace is lost."""
        del path, fields
        ran = subprocess.run(
            self.command(port, folder), capture_output=True, text=True, timeout=self.seconds + _PATIENCE, check=False
        )
        if ran.returncode:
            raise MeasureFailed(f"the callers ended with status {ran.returncode}: {ran.stderr.strip()}")
        return self._result(ran.stdout)

    def _result(self, output: str) -> tuple[int, dict[Figure, float]]:
        requests, seen = parse(output)
        if seen[RATE] < self.rate * _KEPT_UP:
            raise MeasureFailed(
                f"{seen[RATE]:,.0f} of {self.rate:,g} tunnels/s: the proxy or the load did not keep pace"
            )
        return requests, seen

    @contextmanager
    def beside(self, port: int, folder: Path, *, hold: bool = False) -> Iterator[None]:
        """Run it beside the block and end it with that; where it is to `hold`, the block begins once all is open.

        Raises MeasureFailed where a request failed or the pace was lost.
        """
        # It gives way to a load that is measured beside it, on the same core.
        command = ["nice", *self.command(port, folder), *(["-hold"] if hold else [])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
            assert ran.stdout is not None
            try:
                # Where nothing is printed it has ended, and says why below.
                if not hold or ran.stdout.readline():
                    yield
                output, error = ran.communicate(timeout=self.seconds + _PATIENCE)
            finally:
                ran.kill()
        if ran.returncode:
            raise MeasureFailed(f"the callers ended with status {ran.returncode}: {error.decode().strip()}")
        if not hold:
            self._result(output.decode())

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command that runs it."""
        way = self.way
        values: dict[str, object] = {
            "port": port,
            "authority": way.authority,
            "path": f"{way.base}hook",
            "check": f"{way.base}{CHECK}",
            "expect": AUTHORIZATION,
            "roots": folder / way.roots,
            "connections": self.connections,
            "seconds": self.seconds,
            "hosts": self.hosts,
            "first": self.first,
            "rate": self.rate,
        }
        if self.limit is not None:
            values["limit"] = self.limit
        arguments = [part for name, value in values.items() for part in (f"-{name}", str(value))]
        return [str(self.program), *arguments, *way.flags, *(["-once"] if self.once else [])]


def parse(output: str) -> tuple[int, dict[Figure, float]]:
    """Parse the output of the callers."""
    try:
        result: dict[str, int] = json.loads(output)
    except ValueError:
        raise MeasureFailed(f"the callers printed no result: {output.strip()[-300:]}") from None
    return result["requests"], {
        RATE: result["requests"] / result["microseconds"] * 1e6,
        P50: result["p50"] / 1e3,
        P99: result["p99"] / 1e3,
    }
