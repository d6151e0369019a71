"""Programs in Go and Java, compiled once for each worker."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from support import programs

_TESTS: Final = Path(__file__).parents[1]
_JAVA_FOLDERS: Final = ("clients/programs", "clients/services", "integration/programs")
# Without inlining, symbols and debug information, because Go compiles its library if nothing is cached.
_GO: Final = ("build", "-gcflags=all=-l", "-ldflags=-s -w")
_JAVA: Final = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Options of a JVM for a single request: the second compiler and parallel garbage collection would cost more."""
_JAVAC: Final = ("-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC")


def go_program(folder: Path, source: Path) -> str:
    """Compile one file in Go into `folder`, without a network, and return the path of the program."""
    program = folder / f"{source.parent.name}-{source.stem}"
    if not program.exists():
        offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "", "GO111MODULE": "off", "CGO_ENABLED": "0"}
        cache = {"GOCACHE": str(folder / "go")} if "HOME" not in os.environ else {}
        subprocess.run(
            [programs.require("go"), *_GO, "-o", str(program), str(source)],
            env={**os.environ, **offline, **cache},
            capture_output=True,
            check=True,
        )
    return str(program)


def java_programs(folder: Path) -> tuple[str, ...]:
    """Compile all programs in Java into `folder`, and return the command that runs one, up to its options and name."""
    compiler, machine = programs.require("javac"), programs.require("java")
    jar = folder / "programs.jar"
    if not jar.exists():
        sources = [source for folder_name in _JAVA_FOLDERS for source in sorted((_TESTS / folder_name).glob("*.java"))]
        subprocess.run([compiler, *_JAVAC, "-d", folder / "classes", *sources], check=True)
        with ZipFile(jar, "w") as packed:
            for compiled in sorted((folder / "classes").iterdir()):
                packed.write(compiled, compiled.name)
    return (machine, *_JAVA, "-cp", str(jar))
