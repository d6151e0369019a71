"""Run a program that writes a secret: only if no other user can change it, without a shell, and within limits.

A ValueError has the end of a sentence that begins with the program's path. It never has an argument or any output.
"""

from __future__ import annotations

import errno
import os
import select
import shlex
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final, NamedTuple

from sidekey.credentials.commands import Command
from sidekey.credentials.units import format_duration
from sidekey.policy.json_reader import parse_json

MAX_OUTPUT: Final = 64 << 10
"""Maximum bytes of output, as for a secret's file."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOOK: Final = 0.01
"""Seconds between two looks whether a program has exited."""

_MAX_REAP: Final = 1.0
"""Seconds until a killed process is left behind, such as one that another user owns."""

_MAX_LINKS: Final = 40
"""Maximum symbolic links on a path (path_resolution(7))."""


class ProgramOutput(NamedTuple):
    """A secret that a program has written, and the end of its validity in seconds since the epoch, if known."""

    value: str
    expires_at: float | None

    def __repr__(self) -> str:
        return "ProgramOutput(REDACTED)"


class ProgramRunner:
    """Runs programs, and kills those that still run when `close` is called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def run(self, command: Command, timeout: float, environ: Mapping[str, str]) -> ProgramOutput:
        """Run a program for at most `timeout` seconds, and return the secret that it wrote.

        Blocks. Raises ValueError.
        """
        environment = _environment(command, environ)
        # At each run, because a program or a folder may have changed since the last one.
        check_program(command.program)
        return parse_output(self._run(command, timeout, environment))

    def close(self) -> None:
        """Kill all running programs with their process groups, and run no more."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill_group(process)

    def _run(self, command: Command, timeout: float, environment: Mapping[str, str]) -> bytes:
        deadline = time.monotonic() + timeout
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's config names the program, and no shell reads it
                command.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # It may repeat an argument or the secret.
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment,
                bufsize=0,
                # No terminal to ask at, and a process group of its own.
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            raise ValueError(f"cannot be run: {os.strerror(error.errno or 0)}") from None
        with self._lock:
            self._running.add(process)
            if self._closed:
                _kill_group(process)
        try:
            output = _read_output(process, deadline)
        except TimeoutError:
            raise ValueError(
                f"did not exit within its `timeout` of {format_duration(timeout)}, and was killed"
            ) from None
        finally:
            with self._lock:
                self._running.discard(process)
                # Also after its exit, so that it leaves nothing behind.
                _kill_group(process)
            if process.stdout is not None:
                process.stdout.close()
            _reap_group(process)
        status = process.returncode
        if status < 0:
            raise ValueError(f"was ended by signal {-status}")
        if status > 0:
            raise ValueError(f"exited with status {status}: as Sidekey's user, run it with env -i and its variables")
        return output


def _environment(command: Command, environ: Mapping[str, str]) -> dict[str, str]:
    environment = {"PATH": _PATH, "LANG": "C.UTF-8"}
    if "HOME" in environ:
        environment["HOME"] = environ["HOME"]
    missing = [name for name in command.env if name not in environ]
    if missing:
        raise ValueError(f"needs environment variables that Sidekey does not have: set {', '.join(missing)}")
    return environment | {name: environ[name] for name in command.env}


def _read_output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read what a process writes until it exits, without reaping it.

    Raises TimeoutError at the deadline, and ValueError for too much output. The end of the output is not the end of
    the process, and a process that it has started may keep the output open.
    """
    if process.stdout is None:
        raise TypeError("standard output must be a pipe")
    descriptor = process.stdout.fileno()
    # Unlike select(2), poll(2) accepts descriptors above 1023.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    output = bytearray()
    is_open = True
    while True:
        # Before the read, so that all that it wrote is in the pipe.
        has_exited = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        if not has_exited and time.monotonic() >= deadline:
            raise TimeoutError
        if is_open and poll.poll(0 if has_exited else _LOOK * 1000):
            chunk = os.read(descriptor, MAX_OUTPUT + 1)
            output += chunk
            if len(output) > MAX_OUTPUT:
                raise ValueError(f"wrote more than {MAX_OUTPUT >> 10} KiB, and was killed")
            if not chunk:
                is_open = False
        elif has_exited:
            return bytes(output)
        elif not is_open:
            time.sleep(_LOOK)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the process group of a process that was not reaped, so that no other group can have its number."""
    # The group's number is the process's, because it leads its session.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _reap_group(process: subprocess.Popen[bytes]) -> None:
    """Reap a killed process, and its children if Sidekey is the first process of a container, which inherits them.

    Raises ValueError if the process does not end.
    """
    deadline = time.monotonic() + _MAX_REAP
    with suppress(ChildProcessError):
        while True:
            number, status = os.waitpid(-process.pid, os.WNOHANG)
            if number == process.pid:
                process.returncode = os.waitstatus_to_exitcode(status)
            elif not number:
                if time.monotonic() >= deadline:
                    break
                time.sleep(_LOOK)
    if process.returncode is None:
        raise ValueError("was killed, but does not end")


def parse_output(output: bytes) -> ProgramOutput:
    """Return the secret in a program's output: a JSON object with the member `value`, else the whole text.

    Raises ValueError, which never has the output.
    """
    try:
        text = output.decode()
    except UnicodeDecodeError:
        raise ValueError("must write UTF-8") from None
    if not text.lstrip().startswith("{"):
        return ProgramOutput(text, None)
    try:
        document = parse_json(text)
    except ValueError:
        return ProgramOutput(text, None)
    if "value" not in document:
        # A secret may be a JSON object itself.
        return ProgramOutput(text, None)
    value, expires_at = document["value"], document.get("expires_at")
    if not isinstance(value, str):
        raise ValueError("must write a text as the member `value` of its JSON object")  # noqa: TRY004 - see above
    return ProgramOutput(value, None if expires_at is None else _parse_time(expires_at))


def _parse_time(raw: object) -> float:
    try:
        moment = datetime.fromisoformat(raw) if isinstance(raw, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("must write `expires_at` as in RFC 3339, such as 2026-01-31T23:59:59Z")
    seconds = moment.timestamp()
    if seconds <= time.time():
        raise ValueError("wrote a secret whose `expires_at` is in the past")
    return seconds


def check_program(program: str) -> None:
    """Raise ValueError if a user other than root and this one can change a program, or what its path leads to.

    Checks the file and every folder and symbolic link on the way: each must belong to root or to this user, and nobody
    else may write to it. In a folder with the sticky bit, others cannot replace an entry that is not theirs.
    """
    try:
        path, state = _locate(program)
    except OSError as error:
        reason = "does not exist" if error.errno == errno.ENOENT else f"cannot be run: {os.strerror(error.errno or 0)}"
        raise ValueError(reason) from None
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("must be a file")
    if state.st_mode & (stat.S_ISUID | stat.S_ISGID):
        raise ValueError("is not run, because it is setuid or setgid, so that Sidekey could not kill it")
    _check_state(path, state)


def _locate(program: str) -> tuple[str, os.stat_result]:
    """Follow a path and its links as the kernel does, and check each step. Returns the file, which is not checked."""
    path, state = "/", os.stat("/")  # noqa: PTH116 - all paths here are texts
    pending, links = _split(program), 0
    while pending:
        name = pending.pop()
        _check_state(path, state)
        path = os.path.dirname(path) if name == ".." else os.path.join(path, name)  # noqa: PTH118, PTH120
        state = os.lstat(path)
        if not stat.S_ISLNK(state.st_mode):
            continue
        _check_owner(path, state)
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(path)  # noqa: PTH115
        pending += _split(target)
        path = "/" if target.startswith("/") else os.path.dirname(path)  # noqa: PTH120
        state = os.lstat(path)
    return path, state


def _split(path: str) -> list[str]:
    """Return the names of a path, the last first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _check_owner(path: str, state: os.stat_result) -> None:
    if state.st_uid not in (0, os.geteuid()):
        raise ValueError(
            f"is not run, because another user owns {path}: run chown root {shlex.quote(path)}, or use another program"
        )


def _check_state(path: str, state: os.stat_result) -> None:
    _check_owner(path, state)
    is_sticky_folder = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky_folder:
        mode = f"{stat.S_IMODE(state.st_mode):04o}"
        raise ValueError(
            f"is not run, because other users can change {path} (mode {mode}): run chmod go-w {shlex.quote(path)}"
        )
