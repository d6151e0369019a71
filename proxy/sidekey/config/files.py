"""Read the files of a config, and combine their documents into one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sidekey.config.errors import ConfigError, LocatedMapping, error_at, line_of, mark_at
from sidekey.config.file_stamps import Stamp, is_folder, stamp
from sidekey.config.secrets import TRANSIENT, FileMissing, Transient, read_bounded
from sidekey.config.yaml_reader import Malformed, parse

MAX_FILE_SIZE = 64 << 20
"""Maximum bytes of a config file."""

_DEFAULT_PATH: Final = "/etc/sidekey"

MISSING_CONFIG_REMEDY: Final = (
    f": name a config file or folder with --config, or in SIDEKEY_CONFIG; the default is {_DEFAULT_PATH}"
)
"""The end of an error about a missing config."""

_SUFFIXES = (".yaml", ".yml")


def default_config_path(environ: Mapping[str, str]) -> str:
    """Return the path of the config without --config."""
    return environ.get("SIDEKEY_CONFIG") or _DEFAULT_PATH


@dataclass(slots=True)
class ConfigDocuments:
    """The documents of a config.

    `globals` has the global keys of all files. `owners` maps these keys to their documents, `integrations` and
    `presets` map IDs to theirs. `complete` is false if a file could not be read, and `transient` is true if a read
    error may pass without a change.
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


def read_config(path: Path, stamp_of: Callable[[Path], Stamp] = stamp, *, remedy: str = "") -> ConfigDocuments:
    """Read a file, or a folder's `*.yaml` and `*.yml` in the order of their names. All errors are in the result.

    `stamp_of` is called for the folder and for each file before the read. `remedy` ends the error of an empty or
    missing config.
    """
    as_folder = is_folder(path)
    # Absolute, but do not resolve links: Kubernetes swaps a link above a mounted file.
    documents = ConfigDocuments((path if as_folder else path.parent).absolute())
    if as_folder:
        stamp_of(documents.folder)
    try:
        files = list(_config_files(path)) if as_folder else [path]
    except OSError as error:
        documents.transient = error.errno in TRANSIENT
        documents.errors.append(_file_error(path, f"the folder cannot be read: {os.strerror(error.errno or 0)}"))
        return documents
    if not files:
        documents.errors.append(_file_error(path, f"the folder must contain a *.yaml or *.yml file{remedy}"))
    for file in files:
        stamp_of(documents.folder / file.name)
        _add_file(documents, file, remedy if file is path else "")
    return documents


def _config_files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.suffix in _SUFFIXES and not file.name.startswith(".") and not is_folder(file):
            yield file


def _file_error(path: Path, reason: str) -> ConfigError:
    return ConfigError(str(path), 1, 1, "", reason)


def _add_file(documents: ConfigDocuments, file: Path, remedy: str) -> None:
    try:
        document, errors = parse(str(file), read_bounded(file, MAX_FILE_SIZE))
    except Malformed as malformed:
        documents.errors.append(malformed.error)
        documents.complete = False
        return
    except ValueError as error:
        is_missing = isinstance(error, FileMissing)
        documents.errors.append(_file_error(file, f"{file} {error}{remedy if is_missing else ''}"))
        documents.complete = False
        documents.transient |= isinstance(error, Transient)
        return
    documents.documents.append(document)
    documents.errors += errors
    documents.errors += _version_errors(document)
    for key, value in document.items():
        if key == "integrations":
            documents.errors += _add_by_id(key, documents.integrations, document, value)
        elif key == "presets":
            documents.errors += _add_by_id(key, documents.presets, document, value)
        elif key in documents.owners and key != "version":
            documents.errors.append(_duplicate_error(document, (key,), documents.owners[key], (key,)))
        else:
            documents.globals[key] = value
            documents.owners[key] = document


def _version_errors(document: LocatedMapping) -> Iterator[ConfigError]:
    if "version" not in document:
        yield error_at(document, ("version",), "this key is missing: begin each file with version: 1")
    elif document["version"] != 1 or isinstance(document["version"], bool):
        yield error_at(document, ("version",), "must be 1: this Sidekey supports version 1")


def _add_by_id(
    key: str, owners: dict[str, LocatedMapping], document: LocatedMapping, entries: Any
) -> Iterator[ConfigError]:
    """Record the document of each ID under `integrations` or `presets`, which any file may have."""
    if not isinstance(entries, LocatedMapping):
        if entries is not None:
            yield error_at(document, (key,), "must be a mapping")
        return
    for name in entries:
        if name in owners:
            loc = (key, name)
            yield _duplicate_error(document, loc, owners[name], loc)
        else:
            owners[name] = document


def _duplicate_error(
    document: LocatedMapping, loc: tuple[str, ...], other: LocatedMapping, other_loc: tuple[str, ...]
) -> ConfigError:
    line = line_of(mark_at(other, other_loc, at_key=True))
    return error_at(document, loc, f"this is already in {other.file}:{line}: remove one", at_key=True)
