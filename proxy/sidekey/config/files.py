"""Which files make up a config, and their documents joined into one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sidekey.config.errors import ConfigError, LocatedMapping, error_at, line_of, mark_at
from sidekey.config.file_stamps import Stamp, is_folder, stamp
from sidekey.config.secrets import TRANSIENT, Absent, Transient, read_bounded
from sidekey.config.yaml_reader import Malformed, parse

MAX_FILE_SIZE = 64 << 20
"""Bytes of a config file."""

_SUFFIXES = (".yaml", ".yml")


DEFAULT: Final = "/etc/sidekey"

NAME_ONE: Final = f": name a config file or folder with --config, or in SIDEKEY_CONFIG; the default is {DEFAULT}"
"""What to do where there is no config."""


def default_config_path(environ: Mapping[str, str]) -> str:
    """Where the config is where the command line does not say."""
    return environ.get("SIDEKEY_CONFIG") or DEFAULT


@dataclass(slots=True)
class ConfigDocuments:
    """The documents of a config.

    `globals` holds the global keys of all files; `owners` says whose each is, `integrations` and `presets`
    likewise for IDs.
    It is not `complete` where a file could not be read, and `transient` where that may pass without a change.
    """

    folder: Path
    documents: list[LocatedMapping] = field(default_factory=list)
    globals: dict[str, Any] = field(default_factory=dict)
    owners: dict[str, LocatedMapping] = field(default_factory=dict)
    integrations: dict[str, LocatedMapping] = field(default_factory=dict)
    presets: dict[str, LocatedMapping] = field(default_factory=dict)
    complete: bool = True
    transient: bool = False
    errors: list[ConfigError] = field(default_factory=list)


def read_config(path: Path, look: Callable[[Path], Stamp] = stamp, *, way_out: str = "") -> ConfigDocuments:
    """Read a file, or a folder's `*.yaml` and `*.yml` by name. Errors are in the result, as many as there are.

    `look` is asked for everything that is about to be read, the folder as well. `way_out` says what to do where there
    is nothing at `path`.
    """
    as_folder = is_folder(path)
    # Made absolute without resolving links: Kubernetes swaps the link that a mounted file lies behind.
    joined = ConfigDocuments((path if as_folder else path.parent).absolute())
    if as_folder:
        look(joined.folder)
    try:
        files = list(_files(path)) if as_folder else [path]
    except OSError as error:
        joined.transient = error.errno in TRANSIENT
        joined.errors.append(_unreadable(path, f"the folder cannot be read: {os.strerror(error.errno or 0)}"))
        return joined
    if not files:
        joined.errors.append(_unreadable(path, f"the folder must contain a *.yaml or *.yml file{way_out}"))
    for file in files:
        look(joined.folder / file.name)
        _add(joined, file, way_out if file is path else "")
    return joined


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.suffix in _SUFFIXES and not file.name.startswith(".") and not is_folder(file):
            yield file


def _unreadable(path: Path, reason: str) -> ConfigError:
    return ConfigError(str(path), 1, 1, "", reason)


def _add(joined: ConfigDocuments, file: Path, way_out: str) -> None:
    try:
        document, errors = parse(str(file), read_bounded(file, MAX_FILE_SIZE))
    except Malformed as malformed:
        joined.errors.append(malformed.error)
        joined.complete = False
        return
    except ValueError as error:
        absent = isinstance(error, Absent)
        joined.errors.append(_unreadable(file, f"{file} {error}{way_out if absent else ''}"))
        joined.complete = False
        joined.transient |= isinstance(error, Transient)
        return
    joined.documents.append(document)
    joined.errors += errors
    joined.errors += _version_errors(document)
    for key, value in document.items():
        if key == "integrations":
            joined.errors += _add_by_id(key, joined.integrations, document, value)
        elif key == "presets":
            joined.errors += _add_by_id(key, joined.presets, document, value)
        elif key in joined.owners and key != "version":
            joined.errors.append(_twice(document, (key,), joined.owners[key], (key,)))
        else:
            joined.globals[key] = value
            joined.owners[key] = document


def _version_errors(document: LocatedMapping) -> Iterator[ConfigError]:
    if "version" not in document:
        yield error_at(document, ("version",), "this key is missing: begin each file with version: 1")
    elif document["version"] != 1 or isinstance(document["version"], bool):
        yield error_at(document, ("version",), "must be 1: this Sidekey supports version 1")


def _add_by_id(
    key: str, found: dict[str, LocatedMapping], document: LocatedMapping, entries: Any
) -> Iterator[ConfigError]:
    """Note whose the IDs under a key are that any file may have."""
    if not isinstance(entries, LocatedMapping):
        if entries is not None:
            yield error_at(document, (key,), "must be a mapping")
        return
    for name in entries:
        if name in found:
            loc = (key, name)
            yield _twice(document, loc, found[name], loc)
        else:
            found[name] = document


def _twice(
    document: LocatedMapping, loc: tuple[str, ...], other: LocatedMapping, other_loc: tuple[str, ...]
) -> ConfigError:
    line = line_of(mark_at(other, other_loc, key=True))
    return error_at(document, loc, f"this is already in {other.file}:{line}: remove one", key=True)
