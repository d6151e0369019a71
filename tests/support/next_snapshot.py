"""Publish another snapshot on a running plane, with identifiable integrations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sidekey.snapshot.snapshot import Integration
from support.plane import RunningPlane, base_url, integration
from support.upstream import RawUpstream


def publish(sidekey: RunningPlane, *integrations: Integration, **changes: Any) -> None:
    """Publish these integrations and global keys in place of the current ones."""
    known = {item.id: item for item in integrations}
    sidekey.publisher.publish(replace(sidekey.snapshot, integrations=known, **changes))


def keyed_integration(port: int, key: str, path: str = "/api", name: str = "h") -> Integration:
    """Build an integration with this key as credential, twice, to identify it."""
    return integration(name, base_url(port, path), headers=(("X-Key", key), ("X-Key-Again", key)))


def received_keys(upstream: RawUpstream) -> list[tuple[bytes, bytes, bytes]]:
    """Return target and credential of each request, which must have exactly one."""
    pairs = []
    for request in upstream.requests:
        (key,), (again,) = request.values(b"x-key"), request.values(b"x-key-again")
        pairs.append((request.target, key, again))
    return pairs
