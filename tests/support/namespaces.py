"""A mount, a network and a PID namespace for a test's servers, so that nothing outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from support import programs

PROGRAMS: Final = ("ip", "nsenter", "setpriv", "unshare")


class NamespacesError(Exception):
    """The namespaces cannot be created."""


class Namespaces:
    """Namespaces that exist for the block, with a tmpfs as /run.

    One process holds them. When it ends, the kernel ends all other processes in them, and removes their networks and
    mounts. cgroups are the exception: see `remove_cgroup`. `setup` is a shell script that runs there first.
    """

    def __init__(self, setup: str = "") -> None:
        # `wait` also reaps the processes that others leave to PID 1.
        self._script = f"mount -t tmpfs tmpfs /run\nip link set lo up\n{setup}\necho ready\nsleep infinity & wait\n"
        self.enter: list[str] = []
        """The beginning of a command that runs in the namespaces. Its working directory is `/`."""

    def __enter__(self) -> Self:
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        # The namespaces end with the tests even where these are killed. A session of its own: Ctrl-C is for the tests.
        self._outer = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", *unshare, "sh", "-e", "-c", self._script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"},
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _wait_until_ready(self) -> None:
        assert self._outer.stdout is not None
        if self._outer.stdout.readline() != "ready\n":
            raise NamespacesError("the namespaces cannot be set up; the reason is printed above")
        [init] = self._children()
        self.enter = ["nsenter", f"--target={init}", "--mount", "--net", "--pid", "--"]

    def _end(self) -> None:
        """Kill PID 1. The kernel reports its exit after all other processes have ended."""
        with self._outer:
            if self._outer.poll() is None:
                for init in self._children():
                    os.kill(init, signal.SIGKILL)
            try:
                self._outer.wait(10)
            except subprocess.TimeoutExpired:
                self._outer.kill()

    def _children(self) -> list[int]:
        process = self._outer.pid
        return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def missing() -> list[str]:
    """List what this machine lacks for namespaces."""
    absent = [name for name in PROGRAMS if programs.find(name) is None]
    return absent if os.geteuid() == 0 else [*absent, "root"]


def remove_cgroup(group: Path) -> None:
    """Remove a cgroup and its children. The kernel empties them a moment after the last process has ended."""
    deadline = time.monotonic() + 10
    for folder, _, _ in os.walk(group, topdown=False):
        while True:
            try:
                Path(folder).rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
