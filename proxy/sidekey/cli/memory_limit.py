"""Keep a command from taking the memory that the service in the same container needs."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_RESERVE: Final = 16 << 20
"""Bytes that stay free for the service."""
_STARTUP: Final = 50 << 20
"""Bytes that any command needs until it has imported its modules and started its threads. Short of memory, these steps
fail in many ways, and few of them are a MemoryError."""
_STACK: Final = 1 << 20


def prefer_oom_kill() -> None:
    """Let the kernel kill this process rather than the service when memory runs out.

    Call it before `process.protect_memory`: after that, only root may write to the file. macOS has no such file.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def limit_memory() -> None:
    """Limit this process to the memory that its cgroup has left, minus a reserve.

    Raises MemoryError if that is too little to start. `prefer_oom_kill` alone is not enough: Kubernetes sets
    `memory.oom.group`, and then the kernel kills all processes of a container.
    """
    available = min(_available_memory(), default=None)
    if available is None:
        return
    if available < _RESERVE + _STARTUP:
        raise MemoryError
    # The limit counts each stack in full, 8 MiB by default.
    threading.stack_size(_STACK)
    data_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    soft = data_pages * resource.getpagesize() + available - _RESERVE
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (min(soft, sys.maxsize if hard == resource.RLIM_INFINITY else hard), hard))


def _available_memory() -> Iterator[int]:
    """Yield the bytes available under each memory limit of this process. Reclaimable page cache is available."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            group = PurePosixPath(path)
            # In a container without a cgroup namespace, the path is the host's and the container's cgroup is the root.
            for level in (group, *group.parents):
                parts = level.parts[1:]
                if "memory" in controllers.split(","):
                    files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                    yield from _available(_CGROUPS.joinpath("memory", *parts), *files)
                elif not controllers:
                    yield from _available(_CGROUPS.joinpath(*parts), "memory.max", "memory.current", "inactive_file")


def _available(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    # A level may be outside of the container, or have no memory controller.
    with suppress(FileNotFoundError):
        maximum = (group / limit).read_text(encoding="ascii").strip()
        if maximum != "max":
            statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            yield int(maximum) - int((group / usage).read_text(encoding="ascii")) + int(statistics[reclaimable])
