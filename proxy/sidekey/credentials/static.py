"""The grant source of kinds that need no call: their grant is there as soon as their secrets can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidekey.credentials.base import Credential, Grant
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import Problem

RETRY_SECONDS = 1.0
"""How long after a failed reading the next may begin: requests come faster than a mounted secret appears."""


class StaticSource:
    """Reads the secrets with `load` (blocking, raises SecretUnreadable) and keeps the grant.

    Nothing is read before `refresh` or `obtain` is called. `unreadable` is the last failure.
    """

    __slots__ = ("_attempt", "_load", "_not_before", "grant", "unreadable")

    def __init__(self, load: Callable[[], Credential]) -> None:
        self.grant: Grant | None = None
        self.unreadable: SecretUnreadable | None = None
        self._load = load
        self._attempt: asyncio.Task[None] | None = None
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"StaticSource({self.grant!r})"

    def refresh(self) -> None:
        """Read the secrets now. A failure is kept in `unreadable`, a former grant stays."""
        try:
            calls = self._load().obtain()
            next(calls)
        except StopIteration as done:
            self.grant, self.unreadable = done.value, None
        except SecretUnreadable as fault:
            self.unreadable = fault
        else:
            raise TypeError("a static source takes kinds that need no call")

    async def obtain(self) -> Grant:
        """The grant; where there is none the secrets are read again, in a thread, by one caller for all who wait.

        Raises Problem (credential_unavailable) that names the key, at most one reading a second.
        """
        loop = asyncio.get_running_loop()
        if self.grant is None and self._attempt is None and loop.time() >= self._not_before:
            self._attempt = loop.create_task(self._read())
        if self.grant is None and self._attempt is not None:
            # A caller that leaves does not end the reading the others wait for.
            await asyncio.shield(self._attempt)
        if self.grant is None:
            raise Problem(
                "credential_unavailable",
                str(self.unreadable) if self.unreadable else "the secrets were not read yet",
                error="proxy_configuration_error",
            )
        return self.grant

    async def _read(self) -> None:
        try:
            await asyncio.to_thread(self.refresh)
        finally:
            self._attempt = None
            self._not_before = asyncio.get_running_loop().time() + RETRY_SECONDS
