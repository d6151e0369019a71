"""The machine and the Python of a measurement: cores of the proxy and of the load, and their description."""

from __future__ import annotations

import os
import platform
import random
import resource
import shutil
import socket
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxy under test has `proxy` alone. Upstream, load generator and harness share `load`."""

    proxy: int
    load: int

    @property
    def shared(self) -> bool:
        """Return True if there is only one core, so that figures include the load's work."""
        return self.proxy == self.load

    def __str__(self) -> str:
        if self.shared:
            return f"one core only ({self.proxy}): proxy, upstream and load share it, so rates are not the proxy's own"
        return f"proxy alone on core {self.proxy}, upstream and load on core {self.load}"


def claim_cores() -> Cores:
    """Choose the cores, the last one for the proxy, and move this process with its children to the load's."""
    available = sorted(os.sched_getaffinity(0))
    cores = Cores(proxy=available[-1], load=available[0])
    os.sched_setaffinity(0, {cores.load})
    return cores


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard limit, also for child processes, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def find_program(name: str) -> str | None:
    """Return the path of a program. Debian keeps daemons outside of an ordinary user's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def free_port() -> int:
    """Return a TCP port of the loopback address without a listener.

    It is not one of those that the kernel gives to outgoing connections: the load uses thousands of them, and a
    connection to such a port before its program listens may connect to itself.
    """
    while True:
        port = random.randrange(10_240, 32_768)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def describe(cores: Cores) -> dict[str, str | int | float]:
    """Describe the machine for readers of the results. The load average shows whether it was quiet."""
    return {
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_build": python_build(sysconfig.get_config_var("CONFIG_ARGS") or "", sys.executable),
        "cores": str(cores),
        "load_average": round(os.getloadavg()[0], 2),
    }


def python_build(configure: str, executable: str) -> str:
    """Return the optimizations of the interpreter, from its configure arguments.

    Debian builds its packages with PGO by make targets, not by these arguments.
    """
    flags = [flag for flag in ("--enable-optimizations", "--with-lto") if flag in configure]
    if flags:
        return " ".join(flags)
    if Path(executable).resolve().is_relative_to("/usr/bin") and Path("/etc/debian_version").exists():
        return "Debian's package, optimised by its own rules"
    return "no PGO"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
