"""The client certificate of one integration: read, checked, kept; an invalid one never replaces a valid one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.credentials.secret_holder import SecretHolder

Messages = tuple[tuple[Keys, str], ...]
"""Places in the integration, and what there is to say of each."""


@dataclass(frozen=True, slots=True)
class CertificateResult:
    """What came of reading a client certificate. There are `errors` where `identity` is None.

    `ends_at` is when what was read ends, in seconds since the epoch, valid or not; None where no certificate was read.
    `refused`: everything was read, and it is no certificate with its key that may be used.
    """

    identity: ClientIdentity | None
    errors: Messages = ()
    warnings: Messages = ()
    ends_at: float | None = None
    refused: bool = False


Read = Callable[[Mapping[Keys, bytes], float], CertificateResult]
"""Reads everything (blocking) and checks it: is passed what was fetched, and the time in seconds since the epoch."""


class CertificateLoader(SecretHolder):
    """Keeps the `identity` that `read` makes.

    `unreadable` and `warnings` are those of the last reading. `urls` are the places that come by {url}: whoever
    fetches them passes the bytes to `receive` and calls `load`, at least every `refresh_every` seconds (None: never
    again); `fetched` is what was received, `fetch_errors` why the last fetch of a place failed. `files` are the paths
    that were named, whose change asks for a `load`.
    """

    __slots__ = (
        "_read",
        "_read_end",
        "_refused",
        "fetch_errors",
        "fetched",
        "files",
        "identity",
        "refresh_every",
        "unreadable",
        "urls",
        "warnings",
    )

    def __init__(
        self,
        read: Read,
        *,
        files: tuple[Path, ...] = (),
        urls: tuple[tuple[Keys, str], ...] = (),
        refresh_every: float | None = None,
    ) -> None:
        self.identity: ClientIdentity | None = None
        self.unreadable: SecretUnreadable | None = None
        self.warnings: Messages = ()
        self.files = files
        self.urls = urls
        self.refresh_every = refresh_every
        self.fetched: Mapping[Keys, bytes] = {}
        self.fetch_errors: Mapping[Keys, str] = {}
        self._read = read
        self._read_end: float | None = None
        self._refused = False

    def __repr__(self) -> str:
        return f"CertificateLoader({self.identity!r})"

    @property
    def pending(self) -> bool:
        """Whether something must be fetched before anything can be said."""
        return any(place not in self.fetched for place, _ in self.urls)

    @property
    def not_fetched(self) -> str:
        """The places that were never fetched, each with the reason; empty where there are none."""
        waiting = [place for place, _ in self.urls if place not in self.fetched]
        return str(
            SecretUnreadable(tuple((each, self.fetch_errors.get(each, "no fetch has ended yet")) for each in waiting))
        )

    @property
    def refused(self) -> str:
        """Why the certificate that was read must not be used, where there is no other; else empty."""
        return str(self.unreadable) if self._refused and self.identity is None else ""

    @property
    def ends_at(self) -> float | None:
        """When the certificate in use ends, else the one that was read last; None where none could be read."""
        identity = self.identity
        return self._read_end if identity is None else identity.not_after

    def receive(self, fetched: Mapping[Keys, bytes]) -> None:
        """Keep what was fetched, by place, beside what was fetched before."""
        # In one step: a reading in another thread sees all of it or nothing.
        self.fetched = {**self.fetched, **fetched}

    def load(self, now: float) -> None:
        """Read and check everything, blocking; `now` is in seconds since the epoch.

        The former identity stays where the new material is invalid, until it expires, and stays the same object where
        nothing changed.
        """
        reading = self._read(self.fetched, now)
        self.warnings = reading.warnings
        self._read_end, self._refused = reading.ends_at, reading.refused
        old, new = self.identity, reading.identity
        if new is not None:
            self.unreadable = None
            if old is None or old.fingerprint != new.fingerprint:
                self.identity = new
            return
        self.unreadable = SecretUnreadable(reading.errors)
        if old is not None and old.not_after <= now:
            self.identity = None
