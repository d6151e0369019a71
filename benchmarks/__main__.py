"""Measure the rows and print the table. A run of all rows writes results.json and the pages built from it."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.arena import Arena
from benchmarks.figures import Outcome
from benchmarks.machine import claim_cores, describe, find_program, raise_open_files
from benchmarks.page import RESULTS, ROOT, publish, say_tls, with_runs
from benchmarks.peers import PEERS
from benchmarks.peers.base import Peer
from benchmarks.processes import MeasureFailed
from benchmarks.rows import ROWS
from benchmarks.table import render

_ABSENT = "absent"


def main(arguments: Sequence[str]) -> int:
    """Run the rows in `arguments` or ROWS."""
    names = list(arguments) or re.findall(r"[^\s,]+", os.environ.get("ROWS", "")) or list(ROWS)
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        print(f"no such row: {', '.join(unknown)}; the rows are: {', '.join(ROWS)}", file=sys.stderr)
        return 2
    if find_program("taskset") is None or not Path("/proc/self/stat").exists():
        print("the benchmarks need Linux with /proc, and taskset: install util-linux", file=sys.stderr)
        return 1
    # A terminated run must stop its programs as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    cores = claim_cores()
    machine = describe(cores)
    versions = {name: _version(peer) for name, peer in PEERS.items()}
    with (
        tempfile.TemporaryDirectory(prefix="sidekey-bench-") as folder,
        Arena(Path(folder), cores, raise_open_files()) as arena,
    ):
        outcomes = {name: _measure(name, arena) for name in names}
    seconds = round(time.monotonic() - began)
    _print(outcomes, machine, versions)
    print(f"\nTotal time: {seconds // 60} min {seconds % 60} s.")
    if names == list(ROWS):
        _write(outcomes, machine, versions, seconds)
    return 1 if any(outcome.failures for outcome in outcomes.values()) else 0


def _measure(name: str, arena: Arena) -> Outcome:
    row = ROWS[name]
    print(f"{name}: {row.title} ...", end="", flush=True, file=sys.stderr)
    began = time.monotonic()
    try:
        outcome = row.run(arena)
    except MeasureFailed as error:
        outcome = Outcome((), {name: str(error)})
    print(f" {time.monotonic() - began:.0f} s", file=sys.stderr)
    return outcome


def _version(peer: Peer) -> str:
    """Return the version that a peer prints, for Sidekey with its build (compiled or pure), or `absent`."""
    if peer.program() is None:
        return _ABSENT
    ran = subprocess.run(peer.version(), capture_output=True, text=True, timeout=30, check=False)
    printed = ran.stdout + ran.stderr
    match = re.search(r"\d+\.\d+\.\d+", printed)
    build = re.search(r"\b(compiled|pure)\b", printed)
    return " ".join(part[0] for part in (match, build) if part is not None) or "unknown"


def _print(outcomes: Mapping[str, Outcome], machine: Mapping[str, object], versions: Mapping[str, str]) -> None:
    print(f"\n{machine['processor']}, Linux {machine['kernel']}; {machine['cores']}.")
    print(f"Python {machine['python']}, {machine['python_build']}.")
    print(f"Load average before: {machine['load_average']}.")
    print("Medians; 1 KB POST, 200 byte response, unless a row says otherwise.")
    print(f"{', '.join(f'{name} {version}' for name, version in versions.items())}.\n")
    for name in outcomes:
        print(f"- {name}: {ROWS[name].title}")
    absent = frozenset(name for name, version in versions.items() if version == _ABSENT)
    print(f"\n{render(outcomes, tuple(PEERS), absent)}")
    for name, outcome in outcomes.items():
        if outcome.tls:
            print(f"\nTLS to the upstream, {name}: {say_tls(outcome.tls)}.")
        for subject, reason in outcome.failures.items():
            print(f"\nnot measured: {name}, {subject}: {reason}")


def _write(
    outcomes: Mapping[str, Outcome], machine: Mapping[str, object], versions: Mapping[str, str], seconds: int
) -> None:
    path = ROOT / RESULTS
    results = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine,
        "versions": versions,
        "seconds": seconds,
        "rows": {name: {"title": ROWS[name].title, **outcome.as_json()} for name, outcome in outcomes.items()},
    }
    published = with_runs(results, json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(published, indent=1) + "\n", encoding="utf-8")
    publish(published)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted; what was started is stopped")
