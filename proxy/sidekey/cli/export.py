"""`sidekey export`: what is stored, as config files without secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import click

from sidekey.ca.trust_folder import replace_file
from sidekey.cli.config import in_store, load_with_store, loader_of
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
    """Why nothing was written, and what to do."""


@dataclass(frozen=True, slots=True)
class Export:
    """Config files by name. `left_out` says what is in none of them and why, `notes` what the files do not say.

    `needs` is what must be filled in: files, and URLs that stand in place of others.
    """

    files: Mapping[str, str]
    needs: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def export(rules: StoreRules, *, whole: bool) -> Export:
    """What is stored now: a file for each integration and preset and one for the callers, or the `whole` in one.

    Raises StoreError.
    """

    async def read(store: Store) -> Export:
        return _Exporting(store.state).export(whole=whole)

    return in_store(rules, read, create=False)


class _Exporting:
    """One export."""

    def __init__(self, state: State) -> None:
        self._left_out: list[str] = []
        self._notes: list[str] = []
        self._texts: dict[str, str] = {}
        self._integrations = self._documents("integration", state.integrations, export_integration)
        self._presets = self._documents("preset", state.presets, export_preset)
        for name, preset in self._presets.items():
            if preset.config["integration"] not in self._integrations:
                text = f"its integration {preset.config['integration']} is not in this export"
                self._notes.append(f"preset {name}: {text}; without a store, that is an error")
        self._callers = {name: export_caller(caller) for name, caller in sorted(state.callers.items())}
        self._left_out += [
            f"caller {name}: its row was altered: delete it" for kind, name in sorted(state.altered) if kind == "caller"
        ]
        for name, caller in sorted(state.callers.items()):
            absent = [each for each in caller.integrations or () if each not in self._integrations]
            absent += [each for each in caller.presets or () if each not in self._presets]
            if absent:
                text = f"it lists {', '.join(absent)}, not in this export; without a store, that is an error"
                self._notes.append(f"caller {name}: {text}")

    def _documents(self, kind: str, rows: Mapping[str, R], exported: Callable[[R], Exported]) -> dict[str, Exported]:
        """What can be exported of these rows; the text of the file of each is kept by the file's name."""
        every: dict[str, Exported] = {}
        for name, row in sorted(rows.items()):
            try:
                found = exported(row)
                text = write(
                    config_of(**{f"{kind}s": {name: found.config}}), build_comment(f"{kind} {name}", found.needs)
                )
            except (NotExported, Inexpressible) as error:
                self._left_out.append(f"{kind} {name}: {error}")
                continue
            every[name], self._texts[f"{kind}-{name}.yaml"] = found, text
            self._notes += [f"{kind} {name}: {note}" for note in found.notes]
        return every

    def export(self, *, whole: bool) -> Export:
        """What came of it."""
        needs = tuple(need for each in (*self._integrations.values(), *self._callers.values()) for need in each.needs)
        files = {"": self._whole(needs)} if whole else dict(self._files())
        return Export(files, needs, tuple(self._left_out), tuple(self._notes))

    def _whole(self, needs: tuple[str, ...]) -> str:
        document = config_of(
            callers={name: each.config for name, each in self._callers.items()},
            integrations={name: each.config for name, each in self._integrations.items()},
            presets={name: each.config for name, each in self._presets.items()},
        )
        return write(document, build_comment("integrations, presets and callers of the store", needs))

    def _files(self) -> Iterator[tuple[str, str]]:
        yield from self._texts.items()
        if self._callers:
            callers = {name: each.config for name, each in self._callers.items()}
            needs = tuple(need for each in self._callers.values() for need in each.needs)
            yield "callers.yaml", write(config_of(callers=callers), build_comment("callers of the store", needs))


def _next_step(needs: tuple[str, ...], output: str) -> str:
    """Say what to do with the files of a folder."""
    missing = f"fill in {len(needs)} secrets, which the first lines of each file name; then " if needs else ""
    return f"to use what is in {output}: {missing}run sidekey check --config {output}"


def write_files(export: Export, folder: Path, *, replace: bool) -> list[str]:
    """Write the files into a folder, each in one step; `replace` those of an export before, whose others are removed.

    The names of those that were removed. Raises ExportError, before anything is written where files are in the way.
    """
    try:
        folder.mkdir(exist_ok=True)
        present = {path.name: path for path in sorted(folder.iterdir()) if path.suffix == ".yaml"}
        ours = {name for name, path in present.items() if _is_ours(path)}
        _refuse(export, folder, present.keys(), ours if replace else frozenset())
        for name, text in export.files.items():
            replace_file(folder / name, text.encode())
        gone = sorted(ours - export.files.keys()) if replace else []
        for name in gone:
            present[name].unlink()
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {os.strerror(error.errno or 0)}") from None
    return gone


def _refuse(export: Export, folder: Path, present: Set[str], replaced: Set[str]) -> None:
    in_the_way = sorted((export.files.keys() & present) - replaced)
    if not in_the_way:
        return
    names = ", ".join(in_the_way[:5]) + (", ..." if len(in_the_way) > 5 else "")
    raise ExportError(
        f"{folder} has files that would be written over: {names}; --replace does so with files of an export before, "
        "which their first line tells: move others away, or name another folder"
    )


def _is_ours(path: Path) -> bool:
    """Whether a file was written by an export."""
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
    _, rules = load_with_store(loader_of(config))
    removed: list[str] = []
    try:
        found = export(rules, whole=output is None)
        if output is not None:
            removed = write_files(found, Path(output), replace=replace)
    except StoreError as error:
        fail(f"store: {error}")
    except ExportError as error:
        fail(error)
    if as_json:
        said = {"files": list(found.files), "removed": removed, "needs": list(found.needs), "notes": list(found.notes)}
        print_json({"ok": not found.left_out, **said, "left_out": list(found.left_out)})
    else:
        for text in found.files.values() if output is None else found.files:
            # As bytes: a config file is UTF-8, wherever this goes.
            click.echo(text.encode(), nl=output is not None)
        for name in removed:
            click.echo(f"removed {name}")
        for note in (*found.notes, *(f"left out: {each}" for each in found.left_out)):
            click.echo(note, err=True)
        if output is not None and found.files:
            click.echo(_next_step(found.needs, output), err=True)
    raise SystemExit(1 if found.left_out else 0)
