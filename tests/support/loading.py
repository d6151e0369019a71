"""Write and load configs."""

from __future__ import annotations

from pathlib import Path

from sidekey.config.load import Loaded
from sidekey.snapshot.snapshot import Snapshot

TENANT = "auth: {type: headers, headers: {X-Tenant: acme}}"
SECRET = "auth: {type: headers, headers: {X-Key: {secret: {file: key}}}}"
CA = "trusted_ca: {file: ca.pem}"


def prefix(name: str) -> str:
    """Build the key that allows an integration one host."""
    return f"endpoint_prefix: https://{name}.example.com"


def write(folder: Path, *integrations: str, file: str = "sidekey.yaml", top: str = "") -> None:
    """Write a config file of integrations, each an ID and its keys. `top` has the lines of the global keys."""
    lines = [f"  {name}: {{{keys}}}\n" for name, _, keys in (line.partition(" ") for line in integrations)]
    (folder / file).write_text(f"version: 1\n{top}integrations:\n" + "".join(lines))


def loaded_snapshot(loaded: Loaded) -> Snapshot:
    """Load a config that must have no error."""
    assert loaded.errors == []
    assert loaded.snapshot is not None
    return loaded.snapshot
