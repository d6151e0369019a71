"""The figures of a process that every exporter has, `process_*`, read from /proc (proc(5)).

prometheus_client has them too, and brings a web server, WSGI and a URL opener: 2 MB of an idle process.
"""

from __future__ import annotations

import os
import resource
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")

# Fields of /proc/PID/stat, counted from the one after the program's name, which may hold spaces and parentheses.
_UTIME, _STIME, _STARTTIME, _VSIZE, _RSS = 11, 12, 19, 20, 21


def render(proc: Path = _PROC) -> bytes:
    """The families, as text; nothing where `proc` is no such file system. It lists every open descriptor.

    Where that alone cannot be done, such as by a security module, only their number is left out.
    """
    try:
        fields = (proc / "self/stat").read_bytes().rpartition(b")")[2].split()
        booted = _boot_time(proc)
    except OSError:
        return b""
    try:
        descriptors: int | None = sum(1 for _ in (proc / "self/fd").iterdir())
    except OSError:
        descriptors = None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    families = (
        ("virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", int(fields[_VSIZE])),
        (
            "resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            int(fields[_RSS]) * resource.getpagesize(),
        ),
        (
            "start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            booted + int(fields[_STARTTIME]) / _TICKS,
        ),
        (
            "cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS,
        ),
        ("open_fds", "gauge", "Number of open file descriptors.", descriptors),
        (
            "max_fds",
            "gauge",
            "Maximum number of open file descriptors.",
            "+Inf" if most == resource.RLIM_INFINITY else most,
        ),
    )
    return "".join(
        f"# HELP process_{name} {text}\n# TYPE process_{name} {kind}\nprocess_{name} {value}\n"
        for name, kind, text, value in families
        if value is not None
    ).encode()


@cache
def _boot_time(proc: Path) -> int:
    """When the system started, in seconds since the epoch, as first asked: it moves when its clock is set."""
    lines = (proc / "stat").read_bytes().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(b"btime "))
