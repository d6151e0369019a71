"""`sidekey ARGUMENTS` in a process that is forked from one that has imported Sidekey before.

The suite starts Sidekey a thousand times, and imports cost ten times what most of these processes do afterwards.
Such a process is Sidekey as a whole, from its arguments to its exit status, but for the start of the interpreter: it
imports nothing, and no PYTHON* variable has an effect. As cryptography is there already, it makes its local CA itself,
where `sidekey.authority.apart` would start a child that takes as long as all the rest. What is about these runs
`python -m sidekey`.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from support.fork_server import NUMBER, Request


class _Server:
    """The process that others are forked from, as those see it that ask; it has imported these modules."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._requests: socket.socket | None = None
        self._alive = -1

    def start(self) -> None:
        """Start it where it does not run. It ends with this process and all that are forked from this one."""
        if self._requests is not None:
            return
        self._requests, requests = socket.socketpair(type=socket.SOCK_DGRAM)
        alive, self._alive = os.pipe()
        given = (requests.fileno(), alive, *self._modules)
        for each in (requests.fileno(), alive):
            os.set_inheritable(each, True)
        code = f"import sys; sys.path[:] = {sys.path!r}; from support.fork_server import main; main{given}"
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        os.posix_spawn(sys.executable, [sys.executable, *flags, "-c", code], environment, file_actions=nothing)
        requests.close()
        os.close(alive)

    def fork(self, request: Request, output: int, errors: int) -> socket.socket:
        """Fork a process. What this returns says its ID, later its status; the process is killed where it is closed."""
        self.start()
        assert self._requests is not None
        ours, starter = socket.socketpair()
        with starter, tempfile.TemporaryFile() as file:
            pickle.dump(request, file)
            file.seek(0)
            socket.send_fds(self._requests, [b"\0"], [starter.fileno(), file.fileno(), output, errors])
        return ours


SERVER: Final = _Server("support.preloaded")

BARE: Final = _Server("sidekey.app", "sidekey.cli.run", "sidekey.cli.loading", "uvloop")
"""Has imported only what `sidekey run` does, whatever it serves: for what is not to be imported."""


class Forked:
    """A running process, with the part of `subprocess.Popen` that tests use; `merged` sends stderr into stdout.

    With `descriptors` it may open no more files; modules that are `absent` are not installed, to it. With `code` it
    runs that, as `python -c` would. What it prints goes to a file `output` where one is given, and is `unbuffered` as
    with PYTHONUNBUFFERED.
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
        code: str | None = None,
        output: Path | None = None,
        unbuffered: bool = False,
        server: _Server = SERVER,
    ) -> None:
        unheard = sorted(name for name in environment.keys() - os.environ.keys() if name.startswith("PYTHON"))
        if unheard:
            raise ValueError(f"{', '.join(unheard)}: read as the interpreter starts; start a fresh one")
        self.stdout, printed = _pipe()
        if output is not None:
            os.close(printed)
            printed = os.open(output, os.O_WRONLY | os.O_NOCTTY)
        self.stderr: IO[str] | None = None
        errors = printed
        if not merged:
            self.stderr, errors = _pipe()
        request = Request(
            code=code,
            arguments=tuple(arguments),
            environment=dict(environment),
            folder=str(folder or Path.cwd()),
            descriptors=descriptors,
            absent=tuple(absent),
            unbuffered=unbuffered,
        )
        self._told = server.fork(request, printed, errors)
        for end in {printed, errors}:
            os.close(end)
        self.pid = self._next()
        self._status: int | None = None
        self._taking = threading.Lock()

    @property
    def returncode(self) -> int | None:
        """The exit status once the process has ended, negative where a signal ended it."""
        return self._look(0)

    def poll(self) -> int | None:
        """The same, by the name that `Popen` has for a look."""
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end; returns the exit status."""
        status = self._look(timeout)
        if status is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal where the process still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Ask for its status no more, which kills it where it still runs."""
        self._told.close()

    def _look(self, timeout: float) -> int | None:
        """The status, where it is there or comes within `timeout` seconds."""
        if self._status is None and _readable(self._told, timeout):
            # Several threads may look at once.
            with self._taking:
                if self._status is None:
                    self._status = self._next()
                    self._told.close()
        return self._status

    def _next(self) -> int:
        told = self._told.recv(NUMBER.size)
        if not told:
            raise RuntimeError("the process that others are forked from has ended")
        number: int = NUMBER.unpack(told)[0]
        return number


def _readable(told: socket.socket, timeout: float) -> bool:
    # Not select(), which knows no descriptor above 1023.
    poll = select.poll()
    poll.register(told, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _pipe() -> tuple[IO[str], int]:
    """What the process writes as text, and the end that it writes to."""
    reader, writer = os.pipe()
    return os.fdopen(reader, encoding="utf-8"), writer
