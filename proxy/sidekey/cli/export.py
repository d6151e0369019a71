"""`sidekey export`: write the content of the store as config files without secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from sidekey.ca.trust_folder import replace_file
from sidekey.cli.config import create_loader, load_with_store, run_with_store
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import fail, print_json
from sidekey.config.stored.transfer import (
    MARK,
    Exported,
    NotExported,
    build_comment,
    config_of,
    export_caller,
    export_integration,
    export_preset,
)
from sidekey.config.yaml_writer import Inexpressible, write
from sidekey.snapshot.store import StoreRules
from sidekey.store.errors import StoreError
from sidekey.store.state import State
from sidekey.store.store import Store

R = TypeVar("R")

_LINE_LIMIT: Final = 400


class ExportError(Exception):
    """Nothing was written. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Export:
    """Config files by name. `left_out` lists objects that no file contains, with the reason.

    `needs` lists secrets that the operator must provide, and URLs to replace. `notes` lists other facts to know, such
    as references to objects that no file contains.
    """

    files: Mapping[str, str]
    needs: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def export(rules: StoreRules, *, single_file: bool) -> Export:
    """Export the store: a file for each integration and preset and one for the callers, or all in a single file.

    Raises StoreError.
    """

    async def read(store: Store) -> Export:
        return _Exporter(store.state).export(single_file=single_file)

    return run_with_store(rules, read, create=False)


class _Exporter:
    """Builds the files of an export from the state of the store."""

    def __init__(self, state: State) -> None:
        self._left_out: list[str] = []
        self._notes: list[str] = []
        self._texts: dict[str, str] = {}
        self._integrations = self._export_all("integration", state.integrations, export_integration)
        self._presets = self._export_all("preset", state.presets, export_preset)
        for name, preset in self._presets.items():
            if preset.config["integration"] not in self._integrations:
                text = f"its integration {preset.config['integration']} is not in this export"
                self._notes.append(f"preset {name}: {text}; without a store, that is an error")
        self._callers = {name: export_caller(caller) for name, caller in sorted(state.callers.items())}
        self._left_out += [
            f"caller {name}: its row was altered: delete it" for kind, name in sorted(state.altered) if kind == "caller"
        ]
        for name, caller in sorted(state.callers.items()):
            absent = [listed for listed in caller.integrations or () if listed not in self._integrations]
            absent += [listed for listed in caller.presets or () if listed not in self._presets]
            if absent:
                text = f"it lists {', '.join(absent)}, not in this export; without a store, that is an error"
                self._notes.append(f"caller {name}: {text}")

    def _export_all(self, kind: str, rows: Mapping[str, R], export_one: Callable[[R], Exported]) -> dict[str, Exported]:
        """Export the rows of a kind with `export_one`, and remember the text of each file."""
        documents: dict[str, Exported] = {}
        for name, row in sorted(rows.items()):
            try:
                document = export_one(row)
                comment = build_comment(f"{kind} {name}", document.needs)
                text = write(config_of(**{f"{kind}s": {name: document.config}}), comment)
            except (NotExported, Inexpressible) as error:
                self._left_out.append(f"{kind} {name}: {error}")
                continue
            documents[name], self._texts[f"{kind}-{name}.yaml"] = document, text
            self._notes += [f"{kind} {name}: {note}" for note in document.notes]
        return documents

    def export(self, *, single_file: bool) -> Export:
        """Build the export. A single file has an empty name, because it is printed."""
        documents = (*self._integrations.values(), *self._callers.values())
        needs = tuple(need for document in documents for need in document.needs)
        files = {"": self._single_file(needs)} if single_file else dict(self._files())
        return Export(files, needs, tuple(self._left_out), tuple(self._notes))

    def _single_file(self, needs: tuple[str, ...]) -> str:
        config = config_of(
            callers={name: caller.config for name, caller in self._callers.items()},
            integrations={name: integration.config for name, integration in self._integrations.items()},
            presets={name: preset.config for name, preset in self._presets.items()},
        )
        return write(config, build_comment("integrations, presets and callers of the store", needs))

    def _files(self) -> Iterator[tuple[str, str]]:
        yield from self._texts.items()
        if self._callers:
            callers = {name: caller.config for name, caller in self._callers.items()}
            needs = tuple(need for caller in self._callers.values() for need in caller.needs)
            yield "callers.yaml", write(config_of(callers=callers), build_comment("callers of the store", needs))


def _next_step(needs: tuple[str, ...], output: str) -> str:
    """Return what to do with the files of a folder."""
    missing = f"fill in {len(needs)} secrets, which the first lines of each file name; then " if needs else ""
    return f"to use what is in {output}: {missing}run sidekey check --config {output}"


def write_files(export: Export, folder: Path, *, replace: bool) -> list[str]:
    """Write each file atomically into a folder. With `replace`, overwrite and remove files of an earlier export.

    Returns the names of removed files. Raises ExportError, and writes nothing if other files have these names.
    """
    try:
        folder.mkdir(exist_ok=True)
        present = {path.name: path for path in sorted(folder.iterdir()) if path.suffix == ".yaml"}
        exported = {name for name, path in present.items() if _is_exported(path)}
        _check_names(export, folder, present.keys(), exported if replace else frozenset())
        for name, text in export.files.items():
            replace_file(folder / name, text.encode())
        removed = sorted(exported - export.files.keys()) if replace else []
        for name in removed:
            present[name].unlink()
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {os.strerror(error.errno or 0)}") from None
    return removed


def _check_names(export: Export, folder: Path, present: Set[str], replaceable: Set[str]) -> None:
    conflicts = sorted((export.files.keys() & present) - replaceable)
    if not conflicts:
        return
    names = ", ".join(conflicts[:5]) + (", ..." if len(conflicts) > 5 else "")
    raise ExportError(
        f"{folder} already has files with these names: {names}; --replace overwrites only files of an earlier export: "
        "move the others away, or name another folder"
    )


def _is_exported(path: Path) -> bool:
    """Return True if an export wrote this file."""
    if not path.is_file() or path.is_symlink():
        return False
    with path.open("rb") as file:
        return file.readline(_LINE_LIMIT).startswith(f"# {MARK}".encode())


@click.command()
@config_option
@json_option
@click.option(
    "--output",
    metavar="DIR",
    help="Write a file for each integration and preset, and one for the callers, into this folder.",
)
@click.option(
    "--replace", is_flag=True, help="Overwrite the files of an earlier export, and remove those of deleted objects."
)
def command(config: str | None, as_json: bool, output: str | None, replace: bool) -> None:
    """Print the content of the store as a config, without secrets.

    The config has the integrations, presets and callers, with public values, provider parameters and CAs. Each secret
    is a reference to a file that you fill in, as the first lines explain. `sidekey import` reads such a config.
    """
    if output is None and (as_json or replace):
        raise click.UsageError("--json and --replace need --output")
    _, rules = load_with_store(create_loader(config))
    removed: list[str] = []
    try:
        exported = export(rules, single_file=output is None)
        if output is not None:
            removed = write_files(exported, Path(output), replace=replace)
    except StoreError as error:
        fail(f"store: {error}")
    except ExportError as error:
        fail(error)
    if as_json:
        print_json(
            {
                "ok": not exported.left_out,
                "files": list(exported.files),
                "removed": removed,
                "needs": list(exported.needs),
                "notes": list(exported.notes),
                "left_out": list(exported.left_out),
            }
        )
    else:
        for text in exported.files.values() if output is None else exported.files:
            # Write bytes: a config file is UTF-8, whatever the locale.
            click.echo(text.encode(), nl=output is not None)
        for name in removed:
            click.echo(f"removed {name}")
        for note in (*exported.notes, *(f"left out: {reason}" for reason in exported.left_out)):
            click.echo(note, err=True)
        if output is not None and exported.files:
            click.echo(_next_step(exported.needs, output), err=True)
    raise SystemExit(1 if exported.left_out else 0)
