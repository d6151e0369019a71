"""Configs that are written, and loaded again, by tests."""

from __future__ import annotations

from pathlib import Path

from sidekey.config.load import Loaded
from sidekey.snapshot.snapshot import Snapshot

TENANT = "auth: {type: headers, headers: {X-Tenant: acme}}"
SECRET = "auth: {type: headers, headers: {X-Key: {secret: {file: key}}}}"
CA = "trusted_ca: {file: ca.pem}"


def prefix(name: str) -> str:
    """The key that lets an integration go to a host of its own."""
    return f"endpoint_prefix: https://{name}.example.com"


def write(folder: Path, *integrations: str, file: str = "sidekey.yaml", top: str = "") -> None:
    """A config file of integrations, each an ID and its keys; `top` are the lines of the global keys."""
    lines = [f"  {name}: {{{keys}}}\n" for name, _, keys in (line.partition(" ") for line in integrations)]
    (folder / file).write_text(f"version: 1\n{top}integrations:\n" + "".join(lines))


def good(loaded: Loaded) -> Snapshot:
    """What was loaded without an error."""
    assert loaded.errors == []
    assert loaded.snapshot is not None
    return loaded.snapshot
