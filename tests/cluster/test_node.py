"""The node of the tests leaves the machine unchanged."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cluster import images
from cluster.node import Node

if "CLUSTER_BIN" not in os.environ:
    pytest.skip("this run uses an existing cluster", allow_module_level=True)


FOLDERS = ("/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods", "/run/containerd", "/run/netns")
"""Folders of components that no setting can move."""


def machine(node: Node) -> dict[str, list[str]]:
    """List what a node could leave behind. Other programs may change the rest of the machine."""
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.is_dir()]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    pattern = r"^(vm\.(overcommit|panic)|kernel\.panic|net\.(ipv4\.ip_forward|netfilter\.nf_conntrack_(max|tcp)))"
    command = ["sysctl", "--all", "--pattern", pattern]
    return {
        "processes": [command.decode() for command in commands if str(node.folder).encode() in command],
        "mounts": [line for line in mounts if str(node.folder) in line],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{node.name}")],
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "sysctls": subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines(),
        "files": [str(path) for folder in (node.folder, *FOLDERS) for path in sorted(Path(folder).glob("**"))],
    }


@pytest.mark.parametrize("interrupted", [False, True])
def test_node_leaves_nothing_behind(interrupted: bool, tmp_path: Path) -> None:
    images.pause(tmp_path / "pause.tar")
    node = Node(Path(os.environ["CLUSTER_BIN"]), tmp_path / "node", [tmp_path / "pause.tar"])
    before = machine(node)

    def run_pod() -> None:
        kubectl = ["kubectl", f"--kubeconfig={node.kubeconfig}"]
        node.run(*kubectl, "wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        node.run(*kubectl, "run", "pause", "--image=localhost/pause:1")
        node.run(*kubectl, "wait", "--for=condition=Ready", "pod/pause", "--timeout=60s")

    if interrupted:
        with pytest.raises(KeyboardInterrupt), node:
            run_pod()
            raise KeyboardInterrupt
    else:
        with node:
            run_pod()
    assert machine(node) == before
