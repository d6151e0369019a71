"""Memory cgroups of either version. Creating one needs root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support import programs
from support.namespaces import remove_cgroup

_ROOT = Path("/sys/fs/cgroup")


class MemoryCgroup:
    """A cgroup. `wrapper` is put before a command to run it there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wrapper = ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(path / "cgroup.procs")]
        first = (path / "memory.limit_in_bytes").exists()
        self._limit = path / ("memory.limit_in_bytes" if first else "memory.max")
        self._usage = path / ("memory.usage_in_bytes" if first else "memory.current")
        self._reclaimable = "total_inactive_file" if first else "inactive_file"

    def used(self) -> int:
        """Return the bytes in use that the kernel cannot reclaim at once."""
        statistics = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        return int(self._usage.read_text()) - int(statistics[self._reclaimable])

    def limit(self, size: int) -> None:
        """Set the limit in bytes."""
        self._limit.write_text(str(size))


@contextmanager
def memory_cgroup(parent: Path | None = None) -> Iterator[MemoryCgroup]:
    """Create a cgroup at the top or below another one. Skip or fail the test if that is impossible."""
    first = _ROOT / "memory"
    path = (parent or (first if first.is_dir() else _ROOT)) / f"memory-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        programs.missing("cgroups", f"no memory cgroup can be made here ({error})")
    try:
        if not any((path / name).exists() for name in ("memory.limit_in_bytes", "memory.max")):
            programs.missing("cgroups", f"{path} has no memory controller")
        yield MemoryCgroup(path)
    finally:
        remove_cgroup(path)
