"""The secrets of one integration: reads them, keeps the credential made of them, says why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidekey.credentials.base import Credential, Grant, Supplemented
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.errors import Problem, ProblemError
from sidekey.refresh import Failed, SingleFlight, fixed

RETRY_SECONDS = 1.0
"""How long after a failed reading the next may begin: requests come faster than a mounted secret appears."""

_PAUSE = fixed(RETRY_SECONDS)


class SecretLoader(SecretHolder):
    """Reads the secrets with `read` (blocking, raises SecretUnreadable) and keeps the `credential`.

    Nothing is read before `load` or `obtain` is called. `unreadable` is the last failure. `supplement` is what the
    grants of a credential that must call first are supplemented with.
    """

    __slots__ = ("_read", "_refresh", "credential", "supplement", "unreadable")

    def __init__(self, read: Callable[[], Credential | Supplemented]) -> None:
        self.credential: Credential | None = None
        self.supplement: Grant | None = None
        self.unreadable: SecretUnreadable | None = None
        self._read = read
        self._refresh: SingleFlight[None, str] = SingleFlight(_PAUSE)

    def __repr__(self) -> str:
        return f"SecretLoader({self.credential!r})"

    def load(self) -> None:
        """Read the secrets now, blocking. A failure is kept in `unreadable`, and a former credential stays."""
        try:
            found = self._read()
        except SecretUnreadable as error:
            # A traceback holds frames, and these this loader and the integration: a cycle that outlives a reload.
            self.unreadable = error.with_traceback(None)
            return
        self.unreadable = None
        if isinstance(found, Supplemented):
            self.credential, self.supplement = found.credential, found.supplement
        else:
            self.credential, self.supplement = found, None

    async def obtain(self) -> Credential:
        """The credential; where there is none the secrets are read again, in a thread, once for all who wait.

        Raises ProblemError (credential_unavailable) that names the key. At most one reading a second.
        """
        if self.credential is None and not self._refresh.blocked:
            await self._refresh.join(self._load_in_thread)
        if self.credential is None:
            raise ProblemError(self._problem)
        return self.credential

    async def obtain_reread(self) -> Credential:
        """The credential, with the secrets read now, in a thread; otherwise as `obtain`."""
        if not self._refresh.blocked:
            await self._refresh.join(self._load_in_thread)
        if self.credential is None or self.unreadable is not None:
            raise ProblemError(self._problem)
        return self.credential

    @property
    def _problem(self) -> Problem:
        reason = "the secrets have not been read yet" if self.unreadable is None else str(self.unreadable)
        return Problem("credential_unavailable", reason, error="proxy_configuration_error")

    async def _load_in_thread(self) -> Failed[str] | None:
        await asyncio.to_thread(self.load)
        return None if self.unreadable is None else Failed(str(self.unreadable))
