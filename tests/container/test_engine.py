"""The engine of the tests leaves the machine unchanged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster import images
from container.engine import Engine
from support import programs


def machine(folder: Path) -> dict[str, list[str]]:
    """List what a run of podman could leave behind, and nothing that another program changes meanwhile."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    filters = subprocess.run(
        [programs.require("nft"), "list", "tables"], check=True, capture_output=True, text=True
    ).stdout
    stored = [Path(place) for place in ("/etc/containers", "/run/containers", "/run/libpod", "/var/lib/containers")]
    return {
        "processes": [*_processes("conmon"), *_processes("aardvark-dns")],
        "mounts": [
            path for path in mounts if path == "/run" or path.startswith((str(folder), "/sys/", "/run/storage"))
        ],
        "network namespaces": sorted(path.name for path in Path("/run/netns").glob("netns-*")),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").glob("podman*")),
        "packet filters": [line for line in filters.splitlines() if "netavark" in line],
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").rglob("libpod*")),
        "files": sorted(str(path) for place in stored for path in place.rglob("*")),
        "folder": [str(folder)] if folder.exists() else [],
    }


def _processes(name: str) -> list[str]:
    return subprocess.run(["pgrep", "--exact", name], check=False, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("interrupted", [False, True])
def test_engine_leaves_nothing_behind(archives: list[Path], interrupted: bool, tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    images.pause(tmp_path / "pause.tar")
    before = machine(folder)
    engine = Engine(folder)

    def run_container() -> None:
        engine.podman("load", "--quiet", f"--input={tmp_path}/pause.tar")
        engine.podman("network", "create", "apis")
        engine.podman("run", "--detach", "--name=running", "--network=apis", "--publish=127.0.0.1:8080:80", "pause:1")
        assert machine(folder)["processes"] != before["processes"]

    if interrupted:
        with pytest.raises(KeyboardInterrupt), engine:
            run_container()
            raise KeyboardInterrupt
    else:
        with engine:
            run_container()
    assert machine(folder) == before
