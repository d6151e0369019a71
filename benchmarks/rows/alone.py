"""Rows without sockets and peers: a module's `run()`, called in a process of its own on the proxy's core."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import benchmarks
from benchmarks.arena import Arena, Comparison
from benchmarks.figures import Figure, Line, Outcome, Reach, Sample, at_most
from benchmarks.peers import PEERS, PURE
from benchmarks.peers.sidekey import Sidekey
from benchmarks.processes import MeasureFailed

_SECONDS = 120
_ROOT = Path(benchmarks.__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Alone:
    """A row of `module`, which has `run() -> dict[str, float]`. Each of `keys` is a line, the columns are builds."""

    name: str
    title: str
    module: str
    keys: Mapping[str, tuple[Figure, Reach | None]]
    columns: tuple[str, ...] = ("sidekey",)
    rounds: int = 1

    def run(self, arena: Arena) -> Outcome:
        """Return the medians of rounds in which the columns take turns."""
        comparison = Comparison()
        for _ in range(self.rounds):
            for column in self.columns:
                if column not in comparison.failures:
                    with comparison.noting(column):
                        comparison.rounds.setdefault(column, []).append(self._sample(column, arena.cores.proxy))
        medians = comparison.medians()
        lines = [
            Line(figure.label, figure, {column: values[figure] for column, values in medians.items()}, reach)
            for figure, reach in self.keys.values()
        ]
        return Outcome(lines, comparison.failures, comparison.rounds)

    def _sample(self, column: str, core: int) -> Sample:
        sidekey = PEERS[column]
        assert isinstance(sidekey, Sidekey)
        script = f"import json; from {self.module} import run; print(json.dumps(run()))"
        command = ["taskset", "--cpu-list", str(core), sidekey.interpreter, "-c", script]
        ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if ran.returncode:
            raise MeasureFailed(f"{self.module} ended with status {ran.returncode}: {ran.stderr.strip()[-600:]}")
        values: dict[str, float] = json.loads(ran.stdout)
        return {figure: values[key] for key, (figure, _) in self.keys.items()}


ROWS = (
    Alone(
        "core",
        "one exchange without sockets (make bench-core)",
        "benchmarks.core",
        {
            "best_us": (Figure("us an exchange, best round", 2), at_most(4.5)),
            "median_us": (Figure("median round", 2), None),
        },
        ("sidekey", PURE),
        rounds=5,
    ),
    Alone(
        "oauth2warm",
        "one exchange without sockets, with a valid token against basic in turn (make bench-core)",
        "benchmarks.core",
        {
            "token_best_us": (Figure("us an exchange, best round", 2), None),
            "token_share": (Figure("oauth2 / basic, best rounds", 3), at_most(1.03)),
        },
    ),
    Alone(
        "signing",
        "what a signature costs an exchange of 1 KiB without sockets, beside a fixed header in turn (make bench-core)",
        "benchmarks.signing",
        {
            "github_more_us": (Figure("HMAC over the body (GitHub), us more", 2), at_most(6)),
            "webhook_more_us": (Figure("HMAC over ID, time and body (Standard Webhooks), us more", 2), None),
            "aws_more_us": (Figure("AWS Signature Version 4, us more", 2), at_most(10)),
            "ed25519_more_us": (Figure("Ed25519 (Standard Webhooks), us more", 2), at_most(40)),
        },
        ("sidekey", PURE),
        rounds=3,
    ),
    Alone(
        "callers",
        "one exchange of a caller with a token without sockets, against one without callers in turn, CPU",
        "benchmarks.callers",
        {
            "reverse_us": (Figure("reverse proxy, us, best round", 2), None),
            "reverse_share": (Figure("reverse proxy / no callers, best rounds", 3), None),
            "forward_us": (Figure("absolute URL through HTTP_PROXY, us, best round", 2), None),
            "forward_share": (Figure("absolute URL / no callers, best rounds", 3), None),
        },
        ("sidekey", PURE),
        rounds=3,
    ),
    Alone(
        "presets",
        "one exchange by a preset without sockets, against the reverse proxy in turn, CPU",
        "benchmarks.presets",
        {
            "payload_us": (Figure("with a payload, us, best round", 2), None),
            "payload_share": (Figure("payload / reverse proxy, best rounds", 3), at_most(1.05)),
            "filled_us": (Figure("JSON of ten parameters, us, best round", 2), None),
            "filled_more_us": (Figure("us more than the reverse proxy, best rounds", 2), at_most(40)),
        },
        ("sidekey", PURE),
        rounds=3,
    ),
    Alone(
        "redaction",
        "search of responses for secrets that were injected, without sockets",
        "benchmarks.redaction",
        {
            "head_us": (Figure("us a response head, best round", 2), at_most(1)),
            "plain_mb_s": (Figure("plain body, MB/s", 0), None),
            "gzip_mb_s": (Figure("gzip body, decoded MB/s", 0), None),
            "hostile_mb_s": (Figure("body of beginnings of a secret, MB/s", 0), None),
        },
        ("sidekey", PURE),
        rounds=3,
    ),
    Alone(
        "worst",
        "CPU of one hostile request until it is forwarded or refused, the worst that a search finds",
        "benchmarks.hostile",
        {
            "worst": (Figure("target, query or head, CPU ms", 2), at_most(10)),
            "target": (Figure("target, CPU ms", 2), None),
            "query": (Figure("query, CPU ms", 2), None),
            "head": (Figure("head, CPU ms", 2), None),
        },
        ("sidekey", PURE),
    ),
    Alone(
        "worstbody",
        "the same for a body of limits.replay_body into which a token goes",
        "benchmarks.hostile_bodies",
        {"body": (Figure("body, CPU ms", 2), None)},
        ("sidekey", PURE),
    ),
)
