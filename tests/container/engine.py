"""podman in its own namespaces, so that nothing of a test run outlives it.

Its storage is on their tmpfs, so the kernel removes the containers, their networks, mounts and files with them. The
containers' cgroups are the exception: podman removes them first. The namespaces also make every machine alike: no
systemd, no higher limit than `NOFILE`, no right to exceed it (CAP_SYS_RESOURCE), and no cgroup v2 beside v1, which
podman refuses. The runtime is runc, since crun refuses cgroup v1.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cluster.kube import CommandFailed
from support import namespaces, programs
from support.namespaces import Namespaces, remove_cgroup

PROGRAMS: Final = ("aardvark-dns", "mmdebstrap", "netavark", "nft", "podman", "podman-compose", "runc")
"""Programs that the tests and the build of their images need, besides Debian's essential ones. `make peers` installs
them."""

NOFILE: Final = 20_000
"""The hard limit of open files: less than many servers allow, as rootless engines have it."""

_SETUP: Final = "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi"

_CONTAINERS: Final = """
[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
image_copy_tmp_dir = "/run"
infra_image = "localhost/pause:1"
runtime = "runc"
[network]
network_config_dir = "/run/networks"
"""
_STORAGE: Final = """
[storage]
driver = "overlay"
graphroot = "/run/storage"
runroot = "/run/containers"
"""
_CGROUPS: Final = ("*/libpod_parent", "libpod_parent")
"""The cgroup of all containers: once for each hierarchy of cgroup v1, and once with v2."""


def missing() -> list[str]:
    """List what this machine lacks for the tests."""
    return [*(name for name in PROGRAMS if programs.find(name) is None), *namespaces.missing()]


class Engine:
    """podman, usable during its context. `folder` has its configuration, and is removed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._undo = contextlib.ExitStack()
        self._enter: list[str] = []
        self._environment = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "HOME": str(folder),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def __enter__(self) -> Self:
        try:
            self._write_configuration()
            self._enter_namespaces()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def podman(self, *arguments: str | Path, text: str = "") -> str:
        """Run podman to its end and return its standard output. Raises CommandFailed."""
        return self.run("podman", *arguments, text=text)

    def run(self, *command: str | Path, text: str = "", environment: dict[str, str] | None = None) -> str:
        """Run a command beside podman to its end and return its standard output. Raises CommandFailed."""
        process = self.start(*command, environment=environment)
        with process:
            output, errors = process.communicate(text)
        if process.returncode:
            shown = " ".join(map(str, command))
            raise CommandFailed(f"{shown}: {process.returncode}\n{output}{errors}")
        return output

    def start(self, *command: str | Path, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command beside podman."""
        return subprocess.Popen(
            [*self._enter, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self._environment, **(environment or {})},
        )

    def _write_configuration(self) -> None:
        self._folder.mkdir()
        self._undo.callback(shutil.rmtree, self._folder)
        (self._folder / "containers.conf").write_text(_CONTAINERS)
        (self._folder / "storage.conf").write_text(_STORAGE)

    def _enter_namespaces(self) -> None:
        present = set(_cgroups())
        self._undo.callback(lambda: _remove_cgroups(set(_cgroups()) - present))
        entered = self._undo.enter_context(Namespaces(_SETUP))
        # The command must end when the tests end its nsenter process.
        limits = ["prlimit", f"--nofile={NOFILE}:{NOFILE}", "setpriv", "--bounding-set=-sys_resource"]
        self._enter = [*entered.enter, *limits, "--pdeathsig=KILL", "--"]
        self._undo.callback(self._remove_containers)

    def _remove_containers(self) -> None:
        self.podman("pod", "rm", "--all", "--force", "--time=0")
        self.podman("rm", "--all", "--force", "--time=0")


def _cgroups() -> Iterator[Path]:
    return (path for pattern in _CGROUPS for path in Path("/sys/fs/cgroup").glob(pattern))


def _remove_cgroups(groups: set[Path]) -> None:
    for group in groups:
        remove_cgroup(group)
