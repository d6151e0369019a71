"""Loads: their protocol, and wrk, which sends 1 KB POSTs over kept or new connections in a closed loop."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from benchmarks.figures import P50, P99, RATE, Figure
from benchmarks.machine import find_program
from benchmarks.processes import MeasureFailed

REQUEST_BODY = b"x" * 1024
RESPONSE_BODY = b"y" * 200
LARGE_BYTES = 100_000
"""Size of request and response in rows of large bodies."""

WARM_UP_SECONDS = 1
"""Seconds of load that open a peer's connections and warm its caches before the rounds that count."""

_MARK = "RESULT "
_SCRIPT = r"""
wrk.method = "POST"
wrk.body = string.rep("x", %(bytes)d)
wrk.headers["Content-Type"] = "application/json"
wrk.headers["User-Agent"] = "bench"
%(headers)s
%(requests)s
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %%d, "microseconds": %%d, "p50": %%d, "p99": %%d, ' ..
    '"connect": %%d, "read": %%d, "write": %%d, "status": %%d, "timeout": %%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""
# Requests to many paths that are formatted beforehand cost wrk one table look-up each.
_CYCLE = """
local ready, turn = {}, 0
init = function()
  for number = 1, %(count)d do ready[number] = wrk.format(nil, "%(path)s" .. (number - 1) .. "%(rest)s") end
end
request = function()
  turn = turn %% %(count)d + 1
  return ready[turn]
end
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """Requests spread over `count` paths, with the number, from 0, between `path` and `rest`."""

    count: int
    path: str
    rest: str

    def paths(self) -> Iterator[str]:
        """Yield the paths in order."""
        return (f"{self.path}{number}{self.rest}" for number in range(self.count))


class Load(Protocol):
    """A load for a round of a row."""

    @property
    def connections(self) -> int:
        """Number of parallel connections."""
        ...

    def brief(self) -> Load:
        """The same load, long enough to warm up."""
        ...

    def measure(
        self, port: int, path: str, folder: Path, fields: Mapping[str, str] | None = None
    ) -> tuple[int, dict[Figure, float]]:
        """Run it with further header fields: requests done, and rate, p50, p99. Files go into `folder`.

        Raises MeasureFailed where a request failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Wrk:
    """A load by wrk: connections, seconds, new or kept connections, and the body's size.

    Rows run many short rounds of the peers in turn: the speed of a machine drifts within a minute, so short rounds
    compare better than long ones.
    """

    connections: int
    seconds: int = 2
    keep: bool = True
    spread: Spread | None = None
    body_bytes: int = len(REQUEST_BODY)
    tls: bool = False
    """Of the connections to the peer."""

    def brief(self) -> Self:
        """The same load, long enough to warm up."""
        return replace(self, seconds=WARM_UP_SECONDS)

    def measure(
        self, port: int, path: str, folder: Path, fields: Mapping[str, str] | None = None
    ) -> tuple[int, dict[Figure, float]]:
        """Run it: requests done, and rate, p50, p99. Raises MeasureFailed where one failed."""
        script = folder / "load.lua"
        script.write_text(self._script(fields), encoding="utf-8")
        wrk = find_program("wrk")
        if wrk is None:
            raise MeasureFailed("wrk is not installed")
        ran = subprocess.run(
            [
                *(wrk, "-t1", f"-c{self.connections}", f"-d{self.seconds}s"),
                *("-s", str(script), f"{'https' if self.tls else 'http'}://127.0.0.1:{port}{path}"),
            ],
            capture_output=True,
            text=True,
            timeout=self.seconds + 30,
            check=False,
        )
        if ran.returncode:
            raise MeasureFailed(f"wrk ended with status {ran.returncode}: {ran.stderr.strip()}")
        return parse(ran.stdout)

    def _script(self, fields: Mapping[str, str] | None) -> str:
        spread = self.spread
        headers = {**(fields or {}), **({} if self.keep else {"Connection": "close"})}
        return _SCRIPT % {
            "bytes": self.body_bytes,
            "headers": "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()),
            "requests": ""
            if spread is None
            else _CYCLE % {"count": spread.count, "path": spread.path, "rest": spread.rest},
        }


def parse(output: str) -> tuple[int, dict[Figure, float]]:
    """Parse wrk's output. Raises MeasureFailed if a request failed."""
    lines: Sequence[str] = [line for line in output.splitlines() if line.startswith(_MARK)]
    if not lines:
        raise MeasureFailed(f"wrk printed no result: {output.strip()[-300:]}")
    result: Mapping[str, int] = json.loads(lines[-1].removeprefix(_MARK))
    errors = [f"{result[kind]} x {kind}" for kind in ("connect", "read", "write", "status", "timeout") if result[kind]]
    if errors or not result["requests"]:
        raise MeasureFailed(f"wrk reports errors: {', '.join(errors) or 'no request had a response'}")
    return result["requests"], {
        RATE: result["requests"] / result["microseconds"] * 1e6,
        P50: result["p50"] / 1e3,
        P99: result["p99"] / 1e3,
    }
