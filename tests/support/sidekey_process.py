"""Sidekey as its users run it: a command or a process, with arguments, variables, signals and an exit status."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import click
from click.testing import CliRunner

from sidekey.cli import main
from sidekey.cli.trust_variables import ADDING_VARIABLES, REPLACING_VARIABLES
from support.files import replace
from support.ports import free_port
from support.raw_connection import DEADLINE

SIDEKEY = (sys.executable, "-m", "sidekey")
"""The command line of Sidekey."""

_PR_SET_DUMPABLE = 4  # linux/prctl.h

_READ = frozenset(
    {*REPLACING_VARIABLES, *ADDING_VARIABLES, "WGETRC", "NO_PROXY", "no_proxy", "JAVA_TOOL_OPTIONS", "PYTHONUNBUFFERED"}
)

HEAD = """\
version: 1
listen: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}
network: {{allow_private: ["127.0.0.0/8"]}}
"""


WITHOUT_UVLOOP = """\
import sys
sys.modules["uvloop"] = None
from sidekey.cli import main
main(prog_name="sidekey")
"""
"""Code for a `SidekeyProcess` that runs on asyncio's loop, as without uvloop."""


def run_cli(
    name: str, *arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command `sidekey NAME` to its end in this process, which saves the 0.6 s of CPU of a start.

    It changes the folder, the variables and the streams of the process: call it in the main thread, without a running
    event loop. Use `run_process` for options of `sidekey` itself, for commands that log, serve or replace the process,
    and to test changes of the process.
    """
    program = click.Context(main, info_name="sidekey", **main.context_settings)
    command = main.get_command(program, name)
    assert command is not None, f"sidekey has no command {name}"
    environ = clean_environment(environment)
    variables = {variable: environ.get(variable) for variable in os.environ.keys() | environ.keys()}
    with _memory_unprotected_afterwards(), chdir(folder or Path()):
        # With capture by file descriptors, the streams have one; a log that is opened on it is the test's output.
        runner = CliRunner(env=variables, catch_exceptions=False, capture="fd")
        result = runner.invoke(command, arguments, prog_name=name, parent=program)
    return subprocess.CompletedProcess(["sidekey", name, *arguments], result.exit_code, result.stdout, result.stderr)


@contextmanager
def _memory_unprotected_afterwards() -> Iterator[None]:
    """Undo `sidekey.process.protect_memory`: the files in /proc/self of a protected process belong to root."""
    core = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, core)
        if sys.platform == "linux":
            assert ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


def run_process(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    output: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `sidekey` with these arguments as a process to its end. Its output is text, or goes to the file `output`."""
    with _opened(output) as printed:
        return subprocess.run(
            [*SIDEKEY, *arguments],
            env=clean_environment(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )


def run_code(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, for changes that a process cannot undo."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def descriptors(count: int) -> tuple[str, ...]:
    """Build a `wrapper` that limits the process to this many open files."""
    return ("sh", "-c", f'ulimit -n {count} && exec "$@"', "sh")


_PASS_SOCKET = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "sidekey.socket"}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Passes a descriptor as systemd does (sd_listen_fds(3)), and becomes the command that follows."""


@contextmanager
def _opened(output: Path | None) -> Iterator[int]:
    if output is None:
        yield subprocess.PIPE
        return
    # A terminal that is opened must not become the controlling one.
    descriptor = os.open(output, os.O_WRONLY | os.O_NOCTTY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class SidekeyProcess:
    """A running `sidekey run` whose `probe` on `admin_port` returns 200: `with SidekeyProcess(config, path) as child`.

    If `metrics_port` is set, the probe goes there. `config` is YAML text without `version`, `listen` and `network`,
    which are written before it. With `head=""` it is the complete file. `wrapper` starts another command, for example
    unshare or taskset. `code` is Python code that starts Sidekey instead of `python -m sidekey`. Output goes to the
    file `output` if set, else into `lines`. The process gets `passed_socket` as from systemd, as descriptor 3.

    All methods block: in an async test, call `stop` with `asyncio.to_thread` if an upstream of the same loop has to
    respond during the drain.
    """

    def __init__(
        self,
        config: str,
        folder: Path,
        *,
        head: str = HEAD,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        code: str | None = None,
        passed_socket: socket.socket | None = None,
        output: Path | None = None,
        metrics_port: int | None = None,
        probe: str = "/readyz",
    ) -> None:
        self.proxy_port = free_port()
        self.admin_port = free_port()
        self.config = folder / "sidekey.yaml"
        self.config.write_text(head.format(proxy=self.proxy_port, admin=self.admin_port) + config)
        self.lines: list[str] = []
        """Lines written to stdout or stderr so far."""
        started = SIDEKEY if code is None else (sys.executable, "-c", code)
        self._pass_fds = () if passed_socket is None else (passed_socket.fileno(),)
        if passed_socket is not None:
            wrapper = (*wrapper, sys.executable, "-c", _PASS_SOCKET, str(passed_socket.fileno()))
        self._command = [*wrapper, *started, "run", "--config", str(self.config), *arguments]
        self._probed = metrics_port or self.admin_port
        self._probe = probe
        self._output = output
        self._env = clean_environment(environment)
        self._written = threading.Condition()
        self.process: subprocess.Popen[str]
        self._reader: threading.Thread

    def start(self) -> None:
        """Start the process without waiting for its listeners."""
        with _opened(self._output) as printed:
            self.process = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=self._pass_fds,
            )
        self._reader = threading.Thread(target=self._collect, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def rewrite(self, text: str) -> None:
        """Replace the config atomically."""
        replace(self.config, text)

    def __enter__(self) -> Self:
        self.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def wait_for_line(self, accepts: Callable[[str], bool]) -> str:
        """Wait for the first line of output for which `accepts` is true."""
        with self._written:
            line = self._written.wait_for(lambda: next(filter(accepts, self.lines), None), DEADLINE)
        if line is None:
            raise TimeoutError(f"no such line in {self.lines}")
        return line

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status. Afterwards `lines` is complete."""
        self.process.send_signal(number)
        return self.wait()

    def cpu_time(self) -> float:
        """CPU time of all threads in seconds."""
        # The clock of another process (clock_getcpuclockid(3)), as Linux encodes its ID.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def wait(self) -> int:
        """Wait for the end without a signal, and return the exit status."""
        status = self.process.wait(timeout=60)
        self._reader.join(timeout=DEADLINE)
        return status

    def _collect(self, stream: IO[str] | None) -> None:
        if stream is None:  # the process writes to a file
            return
        with stream:
            for line in stream:
                with self._written:
                    self.lines.append(line.rstrip("\n"))
                    self._written.notify_all()

    def _wait_until_ready(self) -> None:
        for _ in range(int(DEADLINE / 0.01)):
            if self._is_ready():
                return
            if self.process.poll() is None:
                time.sleep(0.01)
                continue
            self._reader.join(timeout=DEADLINE)
            raise RuntimeError(f"sidekey ended with {self.process.returncode}: {self.lines}")
        raise TimeoutError(f"sidekey is not ready: {self.lines}")

    def _is_ready(self) -> bool:
        with closing(HTTPConnection("127.0.0.1", self._probed, timeout=DEADLINE)) as connection:
            try:
                connection.request("GET", self._probe)
                return connection.getresponse().status == 200
            except ConnectionError:
                return False

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Copy the environment without the variables that Sidekey reads, so that a developer's settings have no effect."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SIDEKEY_") and name not in _READ
    }
    return inherited | dict(extra or {})
