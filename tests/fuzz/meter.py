"""A process without instrumentation that measures inputs: `python -m fuzz.meter NAME` reads them from its input."""

from __future__ import annotations

import struct
import subprocess
import sys

from fuzz.target import cost_of, load


class Meter:
    """Measures inputs of one target in its own process, which ends when its standard input does."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, "-m", "fuzz.meter", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def cost_of(self, data: bytes) -> float:
        """Return the thread CPU time of an input in seconds, the best of three runs."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(struct.pack(">I", len(data)) + data)
        stdin.flush()
        (cost,) = struct.unpack(">d", stdout.read(8))
        return float(cost)


def main(name: str) -> None:
    """Write the cost of each input."""

    target = load(name)
    while head := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(struct.unpack(">I", head)[0])
        sys.stdout.buffer.write(struct.pack(">d", cost_of(target, data)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
