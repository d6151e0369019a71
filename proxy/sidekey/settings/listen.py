"""Builds the addresses of the listeners, and finds those that a reload would move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sidekey.runtime.snapshot import Address, Listen
from sidekey.settings.models import ListenSettings
from sidekey.settings.secrets import SecretReader


def build_listen(settings: ListenSettings, read: SecretReader) -> Listen:
    """Return the listeners, with absolute paths of sockets."""

    def place(address: Address) -> Address:
        if address.path is None:
            return address
        return replace(address, path=str(read.path(address.path)), mode=settings.mode)

    return Listen(
        proxy=place(settings.proxy),
        admin=place(settings.admin),
        metrics=None if settings.metrics is None else place(settings.metrics),
        names=tuple(settings.names),
    )


def moved(one: Listen, other: Listen) -> Iterator[str]:
    """Yield the keys of `listen` in which two differ."""
    modes = False
    for key in ("proxy", "admin", "metrics"):
        before, after = getattr(one, key), getattr(other, key)
        if before is None or after is None or replace(before, mode=after.mode) != after:
            if before is not after:
                yield key
        else:
            modes |= before.mode != after.mode
    if set(one.names) != set(other.names):
        yield "names"
    if modes:
        yield "mode"
