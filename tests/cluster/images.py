"""Images for a node that reaches no registry, as archives that containerd imports."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

SIDEKEY: Final = "registry.example.com/sidekey"
"""The name of Sidekey's image in the examples of the chart, without tag."""

TOOLS: Final = "docker.io/curlimages/curl:8.14.1"
"""The image of the chart's example."""

POSTGRES: Final = "docker.io/library/postgres:17"
POSTGRES_USER: Final = 999
"""The ID of the user `postgres` in that image."""

_PAUSE: Final = r"""
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { exit(0); }
static void reap(int signal) { while (waitpid(-1, NULL, WNOHANG) > 0); }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""
_TOOLS_PACKAGES: Final = "curl,ca-certificates,postgresql"


def pack(archive: Path, names: Sequence[str], layer: Path, config: dict[str, object]) -> None:
    """Write an image of one layer, as `docker save` does."""
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    image_config = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": list(names), "Layers": ["layer.tar"]}]
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(archive, "w") as packed:
        for file, document in (("manifest.json", manifest), ("config.json", image_config)):
            Path(scratch, file).write_text(json.dumps(document))
            packed.add(Path(scratch, file), file)
        packed.add(layer, "layer.tar")


def pause(archive: Path) -> None:
    """Build the image of a pod's sandbox: one static program that waits."""
    with tempfile.TemporaryDirectory() as scratch:
        source, program, layer = (Path(scratch, name) for name in ("pause.c", "pause", "layer.tar"))
        source.write_text(_PAUSE)
        subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
        with tarfile.open(layer, "w") as packed:
            packed.add(program, "pause")
        pack(archive, ["localhost/pause:1"], layer, {"Entrypoint": ["/pause"], "User": "65535:65535"})


def tools(archive: Path) -> None:
    """Build the image of the other containers, with two names: Debian with curl and PostgreSQL."""
    with tempfile.TemporaryDirectory() as scratch:
        layer = Path(scratch, "layer.tar")
        user = f'--customize-hook=chroot "$1" usermod --uid {POSTGRES_USER} postgres'
        command: list[str | Path] = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={_TOOLS_PACKAGES}",
            user,
            "trixie",
            layer,
        ]
        subprocess.run(command, check=True)
        [version] = subprocess.run(
            ["tar", "--list", "--file", layer, "--wildcards", "./usr/lib/postgresql/*/bin/postgres"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        path = f"PATH={Path(version).parent.as_posix().removeprefix('.')}:/usr/local/bin:/usr/bin:/bin"
        pack(archive, [TOOLS, POSTGRES], layer, {"Env": [path], "Cmd": ["/bin/sh"]})


def sidekey(archive: Path, tag: str) -> None:
    """Build Sidekey's image as CI does."""
    environment = {**os.environ, "ARCHIVE": str(archive), "IMAGE": f"{SIDEKEY}:{tag}"}
    subprocess.run(["bash", ".ci/image"], check=True, cwd=ROOT, env=environment)


def build(tag: str) -> Sequence[Path]:
    """Return the archives in the folder that IMAGE_ARCHIVES names. Build missing ones.

    Without that variable, the folder is a cache in this checkout, and Sidekey's image is rebuilt after a change of its
    sources.
    """
    named = os.environ.get("IMAGE_ARCHIVES")
    folder = Path(named) if named else ROOT / ".cache" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    archives = [folder / f"{name}.tar" for name in ("pause", "tools", "sidekey")]
    if not named and archives[-1].exists() and archives[-1].stat().st_mtime < _last_change():
        archives[-1].unlink()
    builders: Sequence[Callable[[Path], None]] = (pause, tools, lambda path: sidekey(path, tag))
    for archive, build_image in zip(archives, builders, strict=True):
        if not archive.exists():
            unfinished = archive.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            build_image(unfinished)
            unfinished.rename(archive)
    return archives


def _last_change() -> float:
    """Return the time of the last change of a source of Sidekey's image."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sources = [ROOT / line.removeprefix("!") for line in lines if line.startswith("!")]
    files = [
        path for source in sources for path in source.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    ]
    return max(path.stat().st_mtime for path in (ROOT / "Dockerfile", *sources, *files) if path.is_file())
