"""A process without instrumentation that measures inputs: `python -m fuzz.judge NAME` reads them from its input."""

from __future__ import annotations

import struct
import subprocess
import sys

from fuzz.target import cost_of, load


class Judge:
    """Measures inputs of one target in a process of its own, which ends with its standard input."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, "-m", "fuzz.judge", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def cost_of(self, data: bytes) -> float:
        """Return the thread CPU time of an input in seconds, the best of three runs."""
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        asked.write(struct.pack(">I", len(data)) + data)
        asked.flush()
        (cost,) = struct.unpack(">d", told.read(8))
        return float(cost)


def main(name: str) -> None:
    """Respond to each input with its cost."""

    target = load(name)
    while head := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(struct.unpack(">I", head)[0])
        sys.stdout.buffer.write(struct.pack(">d", cost_of(target, data)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
