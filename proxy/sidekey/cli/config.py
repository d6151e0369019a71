"""Load the config and open the store for a command, find resources by ID, and complete IDs."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import click

from sidekey.cli.terminal import fail
from sidekey.config.commands import Commands
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


def create_loader(config: str | None, commands: Commands | None = None) -> Loader:
    """Create the loader of the config. First protect this process, which will hold secrets, from the user's others.

    Without `commands`, the loader runs no program.
    """
    protect_memory()
    return Loader(config or default_config_path(os.environ), commands=commands)


def load(config: str | None) -> Loaded:
    """Load the config. The result contains all its errors."""
    return create_loader(config).load()


def load_with_store(loader: Loader) -> tuple[Loaded, StoreRules]:
    """Load a config that must have a store. Exit with an error if it has none."""
    loaded = loader.load()
    if loaded.snapshot is None:
        fail(*loaded.errors)
    if loaded.snapshot.store is None:
        fail("store: the config has no store: add it, with path or url, and keys")
    return loaded, loaded.snapshot.store


def load_snapshot(config: str | None, commands: Commands | None = None) -> Snapshot:
    """Load the config and its store. Exit if the config has an error; unreadable secrets are no error here.

    Run `commands` once, and close them.
    """
    loader = create_loader(config, commands)
    try:
        loaded = loader.load()
    finally:
        if loader.commands is not None:
            loader.commands.close()
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
    """Return the integration with this ID. Exit with an error if it is not served."""
    problems = {} if snapshot.stored is None else snapshot.stored.problems
    if problems.get(name) and name not in snapshot.integrations:
        fail(f"integration {name} of the store is not served: {problems[name]}")
    return _find(snapshot.integrations, "integration", name, "sidekey list")


def find_preset(snapshot: Snapshot, name: str) -> Preset:
    """Return the preset with this ID. Exit with an error if there is none."""
    return _find(snapshot.presets, "preset", name, "sidekey preset list")


def _find(served: Mapping[str, T], kind: str, name: str, listing: str) -> T:
    match = served.get(name)
    if match is None:
        raise click.BadParameter(f"no {kind} has this ID: `{listing}` lists the IDs", param_hint="ID")
    return match


def complete_id(context: click.Context, _: click.Parameter, prefix: str) -> list[str]:
    """Return the IDs of the config's integrations that begin with the prefix, or none if the config cannot be read."""
    snapshot = _load_for_completion(context)
    return [] if snapshot is None else sorted(name for name in snapshot.integrations if name.startswith(prefix))


def complete_first_id(context: click.Context, parameter: click.Parameter, prefix: str) -> list[str]:
    """Complete the first of several arguments, which is an ID."""
    return [] if context.params.get("words") else complete_id(context, parameter, prefix)


def complete_preset_id(context: click.Context, _: click.Parameter, prefix: str) -> list[str]:
    """Return the IDs of the config's presets that begin with the prefix, or none if the config cannot be read."""
    snapshot = _load_for_completion(context)
    return [] if snapshot is None else sorted(name for name in snapshot.presets if name.startswith(prefix))


def _load_for_completion(context: click.Context) -> Snapshot | None:
    return load(context.params.get("config")).snapshot


AUDIT_WHO = "command line"
"""The member `who` of audit entries that commands write."""


def audit_source() -> str:
    """Return the member `source` of audit entries that commands write: the user who runs the command."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return "user unknown"


def run_with_store(rules: StoreRules, work: Callable[[Store], Awaitable[T]], *, create: bool) -> T:
    """Open the store, do the work, and close the store. `create` creates a missing store. Raises StoreError."""

    async def main() -> T:
        store = await open_store(rules, create=create)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())
