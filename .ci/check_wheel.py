"""Whether a wheel holds the package, all of it, and nothing else; a compiled one, the extension of each hot module too.

Usage: check_wheel.py WHEEL
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

SOURCE = Path("proxy")
METADATA = re.compile(r"sidekey-[^/]+\.dist-info/(METADATA|RECORD|WHEEL|entry_points\.txt|licenses/LICENSE)")
EXTENSION = re.compile(r"(?P<module>.+)\.cpython-(?P<python>\d+)-[\w-]+\.so")


def compiled() -> Iterator[str]:
    """The extensions of a compiled wheel, without what their names say of Python and platform."""
    yield "sidekey/compiled__mypyc"
    wheel = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    hook, package = wheel["hooks"]["custom"], SOURCE / "sidekey"
    for glob in hook["modules"]:
        for path in package.glob(glob):
            if path.name != "__init__.py":
                yield path.relative_to(SOURCE).with_suffix("").as_posix()


def errors_of_extensions(wheel: Path, archive: ZipFile) -> Iterator[str]:
    """What is wrong with the extensions: none may be in a pure wheel, each must be in a compiled one, and stripped."""
    tag = re.fullmatch(r"sidekey-[^-]+-(?:cp(\d+)-cp\1-[\w.]+|py3-none-any)\.whl", wheel.name)
    if tag is None:
        yield "the name is that of neither a compiled nor a pure wheel"
        return
    expected = {(module, tag[1]) for module in compiled()} if tag[1] else set()
    found = {(match["module"], match["python"]) for match in map(EXTENSION.fullmatch, archive.namelist()) if match}
    yield from (f"the extension {module} of Python {python} is missing" for module, python in sorted(expected - found))
    yield from (
        f"the extension {module} of Python {python} is not wanted" for module, python in sorted(found - expected)
    )
    yield from (
        f"{name} is not stripped"
        for name in archive.namelist()
        if EXTENSION.fullmatch(name) and b"\0.symtab\0" in archive.read(name)
    )


def errors(wheel: Path) -> list[str]:
    """What is missing and what does not belong, one line each."""
    with ZipFile(wheel) as archive:
        # auditwheel adds an entry for each folder.
        names = {name for name in archive.namelist() if not name.endswith("/") and not EXTENSION.fullmatch(name)}
        of_extensions = list(errors_of_extensions(wheel, archive))
    expected = {
        path.relative_to(SOURCE).as_posix()
        for path in (SOURCE / "sidekey").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    metadata = {name for name in names if METADATA.fullmatch(name)}
    return [
        *of_extensions,
        *(f"{name} is missing" for name in sorted(expected - names)),
        *(f"{name} does not belong there" for name in sorted(names - expected - metadata)),
        *([] if len(metadata) == 5 else [f"the metadata is not whole: {sorted(metadata)}"]),
    ]


def main(wheel: str) -> int:
    """Print what was found; 1 if there are errors."""
    found = errors(Path(wheel))
    sys.stdout.write(
        "".join(f"{wheel}: {error}\n" for error in found) or f"{wheel}: holds the package and nothing else\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
