"""A process that `support.forked` forks Sidekeys from: it has imported what they would import.

It is asked by datagrams, which carry a file with the request, what the forked process writes to, and a socket: there
its starter is told its ID, and once it has ended its status. Where the starter closes the socket before, the process is
killed, so that none outlives the tests.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import pickle
import resource
import runpy
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Final, NoReturn

NUMBER: Final = struct.Struct("=i")
"""A process's ID, or its status, as they are sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a forked process is to be; what it writes to is sent beside.

    It runs `code` as `python -c` would, or `sidekey`, and is `unbuffered` as with PYTHONUNBUFFERED.
    """

    code: str | None
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    descriptors: int | None
    absent: tuple[str, ...]
    unbuffered: bool


def main(requests: int, alive: int, *modules: str) -> None:
    """Fork a process for each request, until nobody holds the other end of `alive`."""
    for name in modules:
        import_module(name)
    # The collectors of all that is forked leave alone what came before.
    gc.collect()
    gc.freeze()
    server = Server(socket.socket(fileno=requests), alive)
    while server.turn():
        pass


class Server:
    """Its children, and the sockets on which their starters wait for them."""

    def __init__(self, requests: socket.socket, alive: int) -> None:
        self._requests = requests
        self._alive = alive
        self._children: dict[int, socket.socket] = {}
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        # Who interrupts the tests interrupts all processes of the terminal; they end this one by `alive`.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def turn(self) -> bool:
        """Do what there is to do next; whether anybody may still ask for something."""
        starters = {starter.fileno(): pid for pid, starter in self._children.items()}
        ready, _, _ = select.select([self._requests.fileno(), self._woken, self._alive, *starters], [], [])
        for each in ready:
            if each == self._requests.fileno():
                self._fork()
            elif each == self._woken:
                os.read(self._woken, 4096)
            elif each in starters:
                # A starter says nothing, so this is its end.
                os.kill(starters[each], signal.SIGKILL)
        # Only here, so that what was killed above was there.
        self._reap()
        if self._alive in ready:
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)
            return False
        return True

    def _fork(self) -> None:
        _, descriptors, _, _ = socket.recv_fds(self._requests, 1, 4)
        starter, *given = descriptors
        pid = os.fork()
        if pid == 0:
            os.close(starter)
            self._forget()
            _be(*given)
        for each in given:
            os.close(each)
        self._children[pid] = socket.socket(fileno=starter)
        self._children[pid].send(NUMBER.pack(pid))

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._children.pop(pid) as starter, suppress(OSError):
                starter.send(NUMBER.pack(os.waitstatus_to_exitcode(status)))

    def _forget(self) -> None:
        """Have nothing of this process's, in one that is forked from it."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for each in (self._woken, self._wake, self._alive):
            os.close(each)
        self._requests.close()
        for starter in self._children.values():
            starter.close()


def _be(request: int, output: int, errors: int) -> NoReturn:
    """Be a Sidekey from its arguments to its exit status, but for the end of the interpreter."""
    status = 1
    try:
        with os.fdopen(request, "rb") as file:
            wanted: Request = pickle.load(file)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.close(output)
        os.close(errors)
        status = _run(wanted)
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


def _run(wanted: Request) -> int:
    os.environ.clear()
    os.environ.update(wanted.environment)
    os.chdir(wanted.folder)
    if wanted.descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted.descriptors, wanted.descriptors))
    for name in wanted.absent:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it raises ImportError
    if wanted.unbuffered:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), write_through=True)
    sys.argv = ["sidekey" if wanted.code is None else "-c", *wanted.arguments]
    try:
        if wanted.code is None:
            runpy.run_module("sidekey", run_name="__main__", alter_sys=True)
        else:
            exec(wanted.code, {"__name__": "__main__"})
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        # As at the end of an interpreter.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    return 0
