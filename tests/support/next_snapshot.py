"""Another snapshot for a plane that serves, and integrations that can be told from those before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sidekey.snapshot.snapshot import Integration
from support.plane import Running, base_url, integration
from support.upstream import RawUpstream


def adopt(sidekey: Running, *integrations: Integration, **changes: Any) -> None:
    """Load these integrations, and these global keys, in place of those that are there."""
    known = {each.id: each for each in integrations}
    sidekey.publisher.publish(replace(sidekey.snapshot, integrations=known, **changes))


def keyed(port: int, key: str, path: str = "/api", name: str = "h") -> Integration:
    """An integration whose credential and prefix can be told from those of another."""
    return integration(name, base_url(port, path), headers=(("X-Key", key), ("X-Key-Again", key)))


def carried(upstream: RawUpstream) -> list[tuple[bytes, bytes, bytes]]:
    """Of each request: where it went and with which credential, which must be there once."""
    found = []
    for each in upstream.requests:
        (key,), (again,) = each.values(b"x-key"), each.values(b"x-key-again")
        found.append((each.target, key, again))
    return found
