"""The secrets of one integration: reads them, keeps the credential made of them, says why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidekey.credentials.base import Credential, Sealed
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import Problem, ProblemError

RETRY_SECONDS = 1.0
"""How long after a failed reading the next may begin: requests come faster than a mounted secret appears."""


class Keyring(Sealed):
    """Reads the secrets with `load` (blocking, raises SecretUnreadable) and keeps the `credential`.

    Nothing is read before `refresh` or `obtain` is called. `unreadable` is the last failure.
    """

    __slots__ = ("_attempt", "_load", "_not_before", "credential", "unreadable")

    def __init__(self, load: Callable[[], Credential]) -> None:
        self.credential: Credential | None = None
        self.unreadable: SecretUnreadable | None = None
        self._load = load
        self._attempt: asyncio.Task[None] | None = None
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"Keyring({self.credential!r})"

    def refresh(self) -> None:
        """Read the secrets now. A failure is kept in `unreadable`, a former credential stays."""
        try:
            self.credential, self.unreadable = self._load(), None
        except SecretUnreadable as fault:
            # A traceback holds frames, those this keyring and the integration: a cycle that outlives a reload.
            self.unreadable = fault.with_traceback(None)

    async def obtain(self) -> Credential:
        """The credential; where there is none the secrets are read again, in a thread, by one caller for all who wait.

        Raises ProblemError (credential_unavailable) that names the key, at most one reading a second.
        """
        loop = asyncio.get_running_loop()
        if self.credential is None and self._attempt is None and loop.time() >= self._not_before:
            self._attempt = loop.create_task(self._read())
        if self.credential is None and self._attempt is not None:
            # A caller that leaves does not end the reading the others wait for.
            await asyncio.shield(self._attempt)
        if self.credential is None:
            raise ProblemError(
                Problem(
                    "credential_unavailable",
                    str(self.unreadable) if self.unreadable else "the secrets were not read yet",
                    error="proxy_configuration_error",
                )
            )
        return self.credential

    async def _read(self) -> None:
        try:
            await asyncio.to_thread(self.refresh)
        finally:
            self._attempt = None
            self._not_before = asyncio.get_running_loop().time() + RETRY_SECONDS
