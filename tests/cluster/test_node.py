"""The node of these tests: it leaves the machine as it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cluster import images
from cluster.node import Node

if "CLUSTER_BIN" not in os.environ:
    pytest.skip("a cluster that exists already is not brought up here", allow_module_level=True)


def machine(folder: Path) -> dict[str, list[str]]:
    """What a node could leave behind."""
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.is_dir()]
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {
        "processes": sorted(command.decode() for command in commands if str(folder).encode() in command),
        "mounts": sorted(mounts),
        "network namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("*/sidekey-*")),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "sysctls": subprocess.run(
            [
                "sysctl",
                "--all",
                "--pattern",
                r"^(vm\.(overcommit|panic)|kernel\.panic|net\.(ipv4\.ip_forward|netfilter))",
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines(),
        "files": [str(path) for path in (folder,) if path.exists()],
    }


@pytest.mark.parametrize("interrupted", [False, True])
def test_node_leaves_nothing_behind(interrupted: bool, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    images.pause(tmp_path / "pause.tar")
    before = machine(folder)
    node = Node(Path(os.environ["CLUSTER_BIN"]), folder, [tmp_path / "pause.tar"])
    if interrupted:
        with pytest.raises(KeyboardInterrupt), node:
            raise KeyboardInterrupt
    else:
        with node:
            found = node.run("kubectl", f"--kubeconfig={node.kubeconfig}", "get", "nodes", "--output=name").stdout
            assert found == f"node/{node.name}\n".encode()
    assert machine(folder) == before
