"""The client certificate of one integration: read, judged, kept; a faulty one never takes the place of a good one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidekey.credentials.base import Sealed
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.credentials.identity import ClientIdentity

Told = tuple[tuple[Keys, str], ...]
"""Places in the integration, and what there is to say of them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a client certificate. `faults` are there where `identity` is None."""

    identity: ClientIdentity | None
    faults: Told = ()
    warnings: Told = ()


Load = Callable[[Mapping[Keys, bytes], float], Reading]
"""Reads everything (blocking) and judges it: takes what was fetched, and the time in seconds since the epoch."""


class CertificateRing(Sealed):
    """Keeps the `identity` that `load` makes.

    `unreadable` and `warnings` are those of the last reading. `urls` are the places that come by {url}: whoever
    fetches them puts the bytes into `fetched` and calls `refresh`, at least every `refresh_every` seconds (None: never
    again). `files` are the paths that were named, whose change asks for a `refresh`.
    """

    __slots__ = ("_load", "fetched", "files", "identity", "refresh_every", "unreadable", "urls", "warnings")

    def __init__(
        self,
        load: Load,
        *,
        files: tuple[Path, ...] = (),
        urls: tuple[tuple[Keys, str], ...] = (),
        refresh_every: float | None = None,
    ) -> None:
        self.identity: ClientIdentity | None = None
        self.unreadable: SecretUnreadable | None = None
        self.warnings: Told = ()
        self.files = files
        self.urls = urls
        self.refresh_every = refresh_every
        self.fetched: dict[Keys, bytes] = {}
        self._load = load

    def __repr__(self) -> str:
        return f"CertificateRing({self.identity!r})"

    @property
    def pending(self) -> bool:
        """Whether something is to be fetched before anything can be said."""
        return any(place not in self.fetched for place, _ in self.urls)

    def refresh(self, now: float) -> None:
        """Read and judge everything, blocking; `now` is in seconds since the epoch.

        The former identity stays where the new material is faulty, until it expires, and as the same object where
        nothing changed.
        """
        reading = self._load(self.fetched, now)
        self.warnings = reading.warnings
        old, new = self.identity, reading.identity
        if new is not None:
            self.unreadable = None
            if old is None or old.fingerprint != new.fingerprint:
                self.identity = new
            return
        self.unreadable = SecretUnreadable(reading.faults)
        if old is not None and old.not_after <= now:
            self.identity = None
