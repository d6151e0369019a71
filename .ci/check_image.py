"""Whether an image is what it promises: its config, its files, and how it runs.

It runs as a container would: in namespaces of its own, without a network, as the image's user, with a read-only root
and no capability. util-linux asks the kernel for that, so no container engine is needed; it takes root.

Usage: check_image.py INSPECTED ROOT BASE, where INSPECTED is what `buildah inspect --type image` printed, and ROOT and
BASE are the mounted files of the image and of what it was built on.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml

USER = "65532:65532"
LIMIT = 120_000_000
"""Bytes that an image may add to its base."""

PATIENCE = 30.0
"""Seconds until a container that does not become healthy, or does not end, counts as stuck."""

CONFIG = Path("examples/compose/sidekey.yaml")
"""What the container serves."""

LABELS = {"title", "description", "licenses", "version", "revision", "base.name"}
"""Names below org.opencontainers.image (OCI image spec, annotations)."""

BUILDS = re.compile(r"(?:.*-)?(?:gcc|g\+\+|cc|c\+\+|clang|ld|make|cmake|cargo|go|uv|pip|pip3)(?:-?\d[\d.]*)?")
"""Programs that compile or install."""

PROGRAMS = ("usr/bin/*", "usr/sbin/*", "usr/local/bin/*", "opt/sidekey/bin/*")
"""Where programs lie; Debian's /bin is a link to one of them."""

PACKAGES = (
    "opt/sidekey/lib/python3*/site-packages/*",
    "usr/lib/python3*/*",
    "usr/lib/python3/dist-packages/*",
    "usr/local/lib/python3*/*",
    "usr/local/lib/python3*/site-packages/*",
)
"""Where Python packages lie, in Debian's Python and in Python's own image."""

INSTALLERS = {"pip", "ensurepip", "setuptools", "wheel", "hatchling", "uv"}
"""Packages that do so."""

ENTER = """
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro,nosuid "$ROOT"
mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc"
mount -t tmpfs -o nosuid,nodev,noexec tmpfs "$ROOT/run"
mkdir "$ROOT/run/secrets"
mount --bind "$MOUNTS/sidekey" "$ROOT/etc/sidekey"
mount --bind "$MOUNTS/secrets" "$ROOT/run/secrets"
for place in run etc/sidekey run/secrets; do mount -o remount,bind,ro "$ROOT/$place"; done
ip link set lo up
exec chroot "$ROOT" "$@"
"""
"""What an engine does after the namespaces are there and before the program starts."""

NAMESPACES = ["--mount", "--net", "--pid", "--ipc", "--uts"]
NO_RIGHTS = ["--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs"]


class Image:
    """An image whose files are mounted at `root`; `mounts` holds the folders that its containers get."""

    def __init__(self, root: Path, config: dict[str, Any], mounts: Path) -> None:
        self.root, self.config, self.mounts = root, config, mounts
        # An engine makes the places of its mounts in a container's own layer.
        (root / "etc" / "sidekey").mkdir(exist_ok=True)

    def command(self, arguments: list[str]) -> list[str]:
        """The entry point with these arguments, with the image's environment and user and without any right."""
        user, _, group = self.config["User"].partition(":")
        confined = ["setpriv", f"--reuid={user}", f"--regid={group}", *NO_RIGHTS, "--"]
        return ["env", "-i", *self.config["Env"], *confined, *self.config["Entrypoint"], *arguments]


class NotRunning(Exception):
    """The container ended, or never began; the message is what it wrote."""


class Container:
    """The image, running with these arguments; `with` ends it."""

    def __init__(self, image: Image, arguments: list[str]) -> None:
        self._image = image
        unshare = ["unshare", *NAMESPACES, "--fork", "--kill-child"]
        self._outer = subprocess.Popen(  # noqa: S603 - the image under test
            [*unshare, "sh", "-e", "-c", ENTER, "sh", *image.command(arguments)],
            env={**os.environ, "ROOT": str(image.root), "MOUNTS": str(image.mounts)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._outer.kill()
        self._outer.wait()
        if self._outer.stdout is not None:
            self._outer.stdout.close()

    def process(self) -> int:
        """What is process 1 inside, by its number outside. Raises NotRunning."""
        deadline = time.monotonic() + PATIENCE
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        while self._outer.poll() is None and time.monotonic() < deadline:
            if numbers := children.read_text().split():
                return int(numbers[0])
            time.sleep(0.01)
        self._outer.kill()
        raise NotRunning(self._outer.communicate()[0])

    def also(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the entry point once more inside, as an engine runs a health check."""
        enter = ["nsenter", f"--target={self.process()}", *NAMESPACES, "--root", "--wdns=/"]
        command = [*enter, *self._image.command(list(arguments))]
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the image under test

    def healthy(self) -> bool:
        """Whether the image's health check passes, in time. Raises NotRunning."""
        deadline = time.monotonic() + PATIENCE
        while self.also("healthcheck").returncode != 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def ended(self) -> tuple[int, str]:
        """Wait for the end; the exit status and all that was written."""
        output, _ = self._outer.communicate(timeout=PATIENCE)
        return self._outer.returncode, output


def errors_of_config(config: dict[str, Any]) -> Iterator[str]:
    """What the image's config should say and does not."""
    wanted = {"User": USER, "Entrypoint": ["sidekey"], "Cmd": ["run"], "Volumes": {}}
    for key, value in wanted.items():
        if (config.get(key) or type(value)()) != value:
            yield f"{key} is {config.get(key)!r}, not {value!r}"
    if (config.get("Healthcheck") or {}).get("Test") != ["CMD", "sidekey", "healthcheck"]:
        yield f"Healthcheck is {config.get('Healthcheck')!r}"
    labels = config.get("Labels") or {}
    for name in sorted(LABELS):
        if labels.get(f"org.opencontainers.image.{name}") in (None, ""):
            yield f"the label org.opencontainers.image.{name} is missing"


def added(root: Path, base: Path) -> int:
    """Bytes of the files that the base does not have, or has otherwise."""
    return sum(
        path.lstat().st_size
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
        if not _same(path, base / path.relative_to(root))
    )


def _same(path: Path, there: Path) -> bool:
    if not there.is_symlink() and not there.exists():
        return False
    here, other = path.lstat(), there.lstat()
    return (here.st_mode, here.st_size, here.st_mtime) == (other.st_mode, other.st_size, other.st_mtime)


def errors_of_files(root: Path) -> Iterator[str]:
    """What should not be in the image, and what is not compiled."""
    yield from (f"/{path} compiles or installs" for path in _found(root, PROGRAMS) if BUILDS.fullmatch(path.name))
    yield from (f"/{path} installs packages" for path in _found(root, PACKAGES) if path.name in INSTALLERS)
    sources = list((root / "opt/sidekey/lib").rglob("*.py"))
    if not sources:
        yield "/opt/sidekey/lib holds no code"
    for source in sources:
        if not list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")):
            yield f"/{source.relative_to(root)} is not compiled"


def _found(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path.relative_to(root) for pattern in patterns for path in root.glob(pattern))


def errors_of_run(image: Image) -> Iterator[str]:
    """What goes wrong in containers: the demo, and a server that is asked for its health and then ended."""
    version = image.config["Labels"]["org.opencontainers.image.version"]
    expected = [
        (["--version"], 0, f"sidekey {version} (compiled)"),
        (["demo", "--once"], 0, "All of it worked."),
        (["healthcheck"], 1, "no response from"),
        (["check"], 0, "ok: 1 integration"),
    ]
    for arguments, status, text in expected:
        with Container(image, arguments) as container:
            returncode, output = container.ended()
        if returncode != status or text not in output:
            yield f"sidekey {' '.join(arguments)} ended with {returncode} and wrote:\n{output}"
    with Container(image, image.config["Cmd"]) as server:
        try:
            yield from _errors_of_server(server)
        except NotRunning as error:
            yield f"sidekey run ended and wrote:\n{error}"


def _errors_of_server(server: Container) -> Iterator[str]:
    healthy = server.healthy()
    process = server.process()
    rights = Path(f"/proc/{process}/status").read_text()
    os.kill(process, signal.SIGTERM)
    returncode, output = server.ended()
    if not healthy or returncode != 0:
        yield f"sidekey run: healthy: {healthy}, ended with {returncode} and wrote:\n{output}"
    for line in (r"Uid:\s+65532\s+65532\s+65532", r"CapEff:\s+0+$", r"CapBnd:\s+0+$", r"NoNewPrivs:\s+1$"):
        if not re.search(f"^{line}", rights, re.M):
            yield f"the container had rights to spare: no {line} in\n{rights}"


def provide(mounts: Path) -> None:
    """Make the folders that a container gets: the config, and the secrets that it names."""
    (mounts / "sidekey").mkdir()
    (mounts / "secrets").mkdir()
    shutil.copy(CONFIG, mounts / "sidekey")
    for integration in yaml.safe_load(CONFIG.read_text())["integrations"].values():
        (mounts / "secrets" / Path(integration["auth"]["password"]["file"]).name).write_text("made-up")
    mounts.chmod(0o755)


def main(inspected: str, root: str, base: str) -> int:
    """Print what was found; 1 if there are errors."""
    config = json.loads(Path(inspected).read_text())["Docker"]["config"]
    size = added(Path(root), Path(base))
    errors = [*errors_of_config(config), *errors_of_files(Path(root))]
    if size > LIMIT:
        errors.append(f"it adds {size / 1e6:.1f} MB to its base, more than {LIMIT / 1e6:.0f}")
    if not errors:
        with tempfile.TemporaryDirectory() as folder:
            provide(Path(folder))
            errors.extend(errors_of_run(Image(Path(root), config, Path(folder))))
    good = f"runs read-only as {USER} without capabilities; adds {size / 1e6:.1f} MB to its base"
    sys.stdout.write("".join(f"image: {error}\n" for error in errors) or f"image: {good}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
