"""The config that a command is about, what of it a command names, and what completes an ID."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import click

from sidekey.cli.terminal import fail
from sidekey.config.files import default_config_path
from sidekey.config.load import Loader
from sidekey.config.load_result import Loaded
from sidekey.errors import StartError
from sidekey.process import protect_memory
from sidekey.snapshot.snapshot import Integration, Preset, Snapshot
from sidekey.snapshot.store import StoreRules
from sidekey.store.open import open_store
from sidekey.store.store import Store
from sidekey.store_manager import add_stored_content

T = TypeVar("T")


def loader_of(config: str | None) -> Loader:
    """The loader of the config; other processes of the user lose access to this one before a secret is read."""
    protect_memory()
    return Loader(config or default_config_path(os.environ))


def load(config: str | None) -> Loaded:
    """What is loaded of the config, with all its errors."""
    return loader_of(config).load()


def load_with_store(loader: Loader) -> tuple[Loaded, StoreRules]:
    """What a loader loads of a config that has a store, and what that is opened by; ends the command without one."""
    loaded = loader.load()
    if loaded.snapshot is None:
        fail(*loaded.errors)
    if loaded.snapshot.store is None:
        fail("store: the config has no store: add it, with path or url, and keys")
    return loaded, loaded.snapshot.store


def load_snapshot(config: str | None) -> Snapshot:
    """The config with what is in its store, where it has no error; secrets that cannot be read do not matter here."""
    loader = loader_of(config)
    loaded = loader.load()
    snapshot = loaded.snapshot
    if snapshot is None:
        fail(*loaded.errors)
    if snapshot.store is not None:
        try:
            return add_stored_content(snapshot.store, loader, loaded)
        except StartError as error:
            click.echo(f"warning: {error}; only integrations of files are known", err=True)
    return snapshot


def find_integration(snapshot: Snapshot, name: str) -> Integration:
    """The integration that is named; ends the command where it is not served."""
    problems = {} if snapshot.stored is None else snapshot.stored.problems
    if problems.get(name) and name not in snapshot.integrations:
        fail(f"integration {name} of the store is not served: {problems[name]}")
    return _find(snapshot.integrations, "integration", name, "sidekey list")


def find_preset(snapshot: Snapshot, name: str) -> Preset:
    """The preset that is named, likewise."""
    return _find(snapshot.presets, "preset", name, "sidekey preset list")


def _find(served: Mapping[str, T], kind: str, name: str, listing: str) -> T:
    found = served.get(name)
    if found is None:
        raise click.BadParameter(f"no {kind} has this ID: `{listing}` shows those that there are", param_hint="ID")
    return found


def complete_id(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Return the IDs of the config's integrations that begin so, or none if the config cannot be read."""
    found = _known(context)
    return [] if found is None else sorted(name for name in found.integrations if name.startswith(begun))


def complete_first_id(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Complete the first of several words, which is an ID."""
    return [] if context.params.get("words") else complete_id(context, parameter, begun)


def complete_preset_id(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Return the IDs of the config's presets that begin so, or none if the config cannot be read."""
    found = _known(context)
    return [] if found is None else sorted(name for name in found.presets if name.startswith(begun))


def _known(context: click.Context) -> Snapshot | None:
    return load(context.params.get("config")).snapshot


WHO = "command line"
"""Whom the audit names, beside the user."""


def user() -> str:
    """Who runs the command, as far as the system knows: where it came from, to the audit."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return "user unknown"


def in_store(rules: StoreRules, work: Callable[[Store], Awaitable[T]], *, create: bool) -> T:
    """Open the store at once or not at all, do the work, and close it; `create` may make it. Raises StoreError."""

    async def main() -> T:
        store = await open_store(rules, create=create)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())
