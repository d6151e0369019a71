"""`sidekey ARGUMENTS` in a process that is forked from one that has imported Sidekey before.

The suite starts Sidekey some two hundred times, and imports cost ten times what most of these processes do afterwards.
Such a process is Sidekey as a whole, from its arguments to its exit status, but for the start of the interpreter: it
imports nothing, and no PYTHON* variable has an effect. As cryptography is there already, it makes its local CA itself,
where `sidekey.authority.apart` would start a child that takes as long as all the rest. What is about these runs
`python -m sidekey`.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "sidekey.app",
        "sidekey.authority.certificates",
        "sidekey.cli.check",
        "sidekey.cli.check_urls",
        "sidekey.cli.demo",
        "sidekey.cli.env",
        "sidekey.cli.exec",
        "sidekey.cli.explain",
        "sidekey.cli.exporting",
        "sidekey.cli.healthcheck",
        "sidekey.cli.importing",
        "sidekey.cli.listing",
        "sidekey.cli.presets",
        "sidekey.cli.run",
        "sidekey.cli.schema",
        "sidekey.cli.store",
        "sidekey.cli.testing",
        "sidekey.cli.tokens",
        "sidekey.managed",
        "sidekey.sources.certificates.service",
        "sidekey.store.postgres",
        "sidekey.store.sqlite",
        "uvloop",
        "support.frozen",
    ]
)


class Forked:
    """A running process, with the part of `subprocess.Popen` that tests use; `merged` sends stderr into stdout.

    With `descriptors` it may open no more files; modules that are `absent` are not installed, to it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
        *,
        merged: bool,
        descriptors: int | None = None,
        absent: Sequence[str] = (),
    ) -> None:
        unheard = sorted(name for name in environment.keys() - os.environ.keys() if name.startswith("PYTHON"))
        if unheard:
            raise ValueError(f"{', '.join(unheard)}: read as the interpreter starts; start a fresh one")
        self.stdout, output = _pipe()
        self.stderr: IO[str] | None = None
        errors = output
        if not merged:
            self.stderr, errors = _pipe()
        limits = (descriptors, tuple(absent))
        self._process = _FORKS.Process(
            target=_main, args=(list(arguments), dict(environment), folder, limits, output, errors), daemon=True
        )
        self._process.start()
        output.close()
        errors.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status once the process has ended, negative where a signal ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same, by the name that `Popen` has for a look."""
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end; returns the exit status."""
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal where the process still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def _pipe() -> tuple[IO[str], Connection]:
    """What the process writes as text, and the end that it writes to."""
    reader, writer = _FORKS.Pipe(duplex=False)
    with reader:
        return os.fdopen(os.dup(reader.fileno()), encoding="utf-8"), writer


def _main(
    arguments: list[str],
    environment: dict[str, str],
    folder: Path | None,
    limits: tuple[int | None, tuple[str, ...]],
    output: Connection,
    errors: Connection,
) -> None:
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    output.close()
    errors.close()
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        os.chdir(folder)
    descriptors, absent = limits
    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ImportError
    sys.argv = ["sidekey", *arguments]
    runpy.run_module("sidekey", run_name="__main__", alter_sys=True)
