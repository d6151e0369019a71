"""Programs in Go and Java that tests run, compiled once for each content of their sources."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from support import peers
from support.once import once

_TESTS: Final = Path(__file__).parents[1]
_OF_JAVA: Final = ("clients/programs", "clients/services", "integration/programs")
# Without inlining, symbols and debug information: where nothing is cached, Go compiles its library first.
_GO: Final = ("build", "-gcflags=all=-l", "-ldflags=-s -w")
_JAVAC: Final = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")


def go_program(folder: Path, source: Path) -> str:
    """The program of one file in Go, compiled without a network and kept in `folder`."""
    command = (peers.require("go"), *_GO)

    def build(unfinished: Path) -> None:
        offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GO111MODULE": "off", "CGO_ENABLED": "0"}
        environment = {"GOCACHE": str(unfinished / "cache")} if "HOME" not in os.environ else {}
        subprocess.run(
            [*command, "-o", str(unfinished / source.stem), str(source)],
            env={**os.environ, **offline, **environment},
            capture_output=True,
            check=True,
        )

    return str(once(folder / f"go-{source.stem}-{_digest(command, [source])}", build) / source.stem)


def java_classes(folder: Path) -> str:
    """The class path of all programs in Java, kept in `folder`: `java Client.java` compiles it for each start."""
    sources = [source for place in _OF_JAVA for source in sorted((_TESTS / place).glob("*.java"))]
    command = (peers.require("javac"), *_JAVAC)

    def build(unfinished: Path) -> None:
        subprocess.run([*command, "-d", unfinished, *sources], check=True)

    return str(once(folder / f"java-{_digest(command, sources)}", build))


def _digest(command: Sequence[str], sources: Sequence[Path]) -> str:
    """Of all that decides what comes of it."""
    compiler = Path(command[0]).resolve()
    found = sha256(repr((compiler, compiler.stat().st_mtime_ns, command[1:])).encode())
    for source in sources:
        found.update(sha256(source.read_bytes()).digest())
    return found.hexdigest()[:16]
