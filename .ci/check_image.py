"""Check an image without a container engine: its config, its files, their size, and that its command starts.

`make container-test` runs the image with podman and checks how it behaves.

Usage: check_image.py INSPECTED ROOT BASE, as root. INSPECTED is the output of `buildah inspect --type image`, ROOT and
BASE are the mounted files of the image and of its base.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

USER = "65532:65532"
LIMIT = 120_000_000
"""Bytes that an image may add to its base."""

LABELS = {"title", "description", "licenses", "version", "revision", "created", "base.name"}
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


def errors_of_version(config: dict[str, Any], root: Path) -> Iterator[str]:
    """Report what is wrong if the entry point does not start as the image's user, or is not the compiled build."""
    enter = ["chroot", f"--userspec={USER}", str(root), "env", "-i", *config["Env"]]
    command = [*enter, *config["Entrypoint"], "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the image under test
    expected = f"sidekey {config['Labels']['org.opencontainers.image.version']} (compiled)\n"
    if (result.returncode, result.stdout) != (0, expected):
        yield f"sidekey --version ended with {result.returncode} and wrote:\n{result.stdout}{result.stderr}"


def main(inspected: str, root: str, base: str) -> int:
    """Print the errors, or the size; return 1 if there are errors."""
    config = json.loads(Path(inspected).read_text())["Docker"]["config"]
    size = added(Path(root), Path(base))
    errors = [*errors_of_config(config), *errors_of_files(Path(root))]
    if size > LIMIT:
        errors.append(f"it adds {size / 1e6:.1f} MB to its base, more than {LIMIT / 1e6:.0f}")
    if not errors:
        errors.extend(errors_of_version(config, Path(root)))
    good = f"adds {size / 1e6:.1f} MB to its base"
    sys.stdout.write("".join(f"image: {error}\n" for error in errors) or f"image: {good}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
