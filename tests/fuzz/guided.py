"""Run one target under libFuzzer: `python -m fuzz.guided NAME FOLDER SECONDS`.

Instrumented code is slower, so a second process without instrumentation judges inputs that seem to cost too much.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

from fuzz.meter import Meter
from fuzz.target import BUDGET, LONGEST, cost_of, load


def main(name: str, folder: str, seconds: str) -> None:
    """Start with the seeds and the inputs of earlier runs. Never returns."""
    with atheris.instrument_imports(include=["sidekey"]):
        target = load(name)
    meter = Meter(name)

    def try_input(data: bytes) -> None:
        target.check(data)
        if cost_of(target, data) > BUDGET:
            cost = meter.cost_of(data)
            assert cost <= BUDGET, f"{len(data)} bytes cost {cost * 1000:.1f} ms"

    kept = Path(folder, "inputs")
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        Path(seeds, "inputs").mkdir()
        for number, seed in enumerate(target.seeds):
            Path(seeds, "inputs", str(number)).write_bytes(seed)
        words = Path(seeds, "words")
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        options = [
            f"-dict={words}",
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            f"-artifact_prefix={folder}/",
            "-timeout=20",
        ]
        atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", str(kept), f"{seeds}/inputs"], try_input)
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(rf"\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(*sys.argv[1:])
