"""Load the client certificate of one integration. An invalid certificate never replaces a valid one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.credentials.fields import Keys, SecretUnreadable
from sidekey.credentials.secret_holder import SecretHolder

Messages = tuple[tuple[Keys, str], ...]
"""Places in the integration, each with a message."""


@dataclass(frozen=True, slots=True)
class CertificateResult:
    """The result of reading a client certificate. If `identity` is None, there are `errors`.

    `expires_at` is the end of the certificate, valid or not, in seconds since the epoch, or None if none was read.
    `refused` is True if everything was read, but certificate and key are not usable.
    """

    identity: ClientIdentity | None
    errors: Messages = ()
    warnings: Messages = ()
    expires_at: float | None = None
    refused: bool = False


Read = Callable[[Mapping[Keys, bytes], float], CertificateResult]
"""Reads and validates certificate and key, from the fetched bytes and files. Blocks. The float is the epoch time."""


class CertificateLoader(SecretHolder):
    """Keeps the `identity` that `read` returns.

    `unreadable` and `warnings` are those of the last load. `urls` are the places with a URL. A certificate source
    fetches them, passes the bytes to `add_fetched` and calls `load`, at least every `refresh_every` seconds (None:
    once). `fetched` has these bytes, and `fetch_errors` why the last fetch of a place failed. A change of one of
    `files` requires another `load`.
    """

    __slots__ = (
        "_read",
        "_read_expires_at",
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
        self._read_expires_at: float | None = None
        self._refused = False

    def __repr__(self) -> str:
        return f"CertificateLoader({self.identity!r})"

    @property
    def pending(self) -> bool:
        """Return True if a URL was never fetched, so that `load` cannot succeed yet."""
        return any(place not in self.fetched for place, _ in self.urls)

    @property
    def missing_reason(self) -> str:
        """The places that were never fetched, with the reasons, or ""."""
        missing = [place for place, _ in self.urls if place not in self.fetched]
        return str(
            SecretUnreadable(
                tuple((place, self.fetch_errors.get(place, "no fetch has ended yet")) for place in missing)
            )
        )

    @property
    def refused_reason(self) -> str:
        """The reason why the certificate is not usable, if no previous one is in use, or ""."""
        return str(self.unreadable) if self._refused and self.identity is None else ""

    @property
    def expires_at(self) -> float | None:
        """The end of the certificate in use, or of the one read last, or None."""
        identity = self.identity
        return self._read_expires_at if identity is None else identity.not_after

    def add_fetched(self, fetched: Mapping[Keys, bytes]) -> None:
        """Add fetched bytes, by place."""
        # Assign once, so that a load in another thread sees all of it or nothing.
        self.fetched = {**self.fetched, **fetched}

    def load(self, now: float) -> None:
        """Read and validate certificate and key. Blocks. `now` is in seconds since the epoch.

        If they are invalid, the previous identity stays until it expires. If nothing changed, it stays the same object.
        """
        result = self._read(self.fetched, now)
        self.warnings = result.warnings
        self._read_expires_at, self._refused = result.expires_at, result.refused
        previous, identity = self.identity, result.identity
        if identity is not None:
            self.unreadable = None
            if previous is None or previous.fingerprint != identity.fingerprint:
                self.identity = identity
            return
        self.unreadable = SecretUnreadable(result.errors)
        if previous is not None and previous.not_after <= now:
            self.identity = None
