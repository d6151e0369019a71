"""Programs in Go and Java that tests run, compiled once for each content of their sources."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from support import peers
from support.java import QUICKLY
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


def java_programs(folder: Path) -> tuple[str, ...]:
    """The command that runs one of all programs in Java, up to its options and name; what it needs is in `folder`.

    `java Client.java` compiles it for each start. Of a jar, the JVM can have loaded classes in an archive (JEP 350).
    """
    sources = [source for place in _OF_JAVA for source in sorted((_TESTS / place).glob("*.java"))]
    compiler, machine = (peers.require("javac"), *_JAVAC), (peers.require("java"), *QUICKLY)

    def build(unfinished: Path) -> None:
        subprocess.run([*compiler, "-d", unfinished / "classes", *sources], check=True)
        with ZipFile(unfinished / "programs.jar", "w") as jar:
            for found in sorted((unfinished / "classes").iterdir()):
                jar.write(found, found.name)

    name = f"jar-{_digest(compiler, sources)}"
    jar = once(folder / name, build) / "programs.jar"

    def archive(unfinished: Path) -> None:
        # It ends with an error, since nobody listens there, and with the classes of a client loaded.
        command = [*machine, f"-XX:ArchiveClassesAtExit={unfinished / 'classes.jsa'}", "-cp", str(jar)]
        subprocess.run([*command, "Client", "http://127.0.0.1:1/"], capture_output=True, check=False)

    kept = once(folder / f"{name}-archive", archive) / "classes.jsa"
    # Where the archive is of no use, the JVM would say so among what a program prints.
    return (*machine, "-Xlog:disable", f"-XX:SharedArchiveFile={kept}", "-cp", str(jar))


def _digest(command: Sequence[str], sources: Sequence[Path]) -> str:
    """Of all that decides what comes of it."""
    compiler = Path(command[0]).resolve()
    found = sha256(repr((compiler, compiler.stat().st_mtime_ns, command[1:])).encode())
    for source in sources:
        found.update(sha256(source.read_bytes()).digest())
    return found.hexdigest()[:16]
