"""Load the secrets of one integration, and keep the credential or the reason why there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from sidekey.credentials.base import Credential, Grant, Supplemented
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.errors import Problem, ProblemError
from sidekey.refresh import Failed, SingleFlight, fixed_pause

RETRY_SECONDS = 1.0
"""Minimum seconds between failed loads, because requests arrive faster than a mounted secret appears."""

_PAUSE = fixed_pause(RETRY_SECONDS)


class SecretLoader(SecretHolder):
    """Reads the secrets with `read` (blocks, raises SecretUnreadable) and keeps the `credential`.

    It reads nothing before the first `load` or `obtain`. `unreadable` is the last failure. `supplement` is added to
    each grant that a `CallingCredential` obtains. `files` are those that `obtain_again` is for.
    """

    __slots__ = ("_read", "_refresh", "credential", "files", "supplement", "unreadable")

    def __init__(self, read: Callable[[], Credential | Supplemented], files: tuple[Path, ...] = ()) -> None:
        self.files = files
        self.credential: Credential | None = None
        self.supplement: Grant | None = None
        self.unreadable: SecretUnreadable | None = None
        self._read = read
        self._refresh: SingleFlight[None, str] = SingleFlight(_PAUSE)

    def __repr__(self) -> str:
        return f"SecretLoader({self.credential!r})"

    def load(self, read: Callable[[], Credential | Supplemented] | None = None) -> None:
        """Read the secrets now, with `read` if it is set. Blocks.

        A failure sets `unreadable` and keeps the previous credential.
        """
        try:
            result = (read or self._read)()
        except SecretUnreadable as error:
            # The traceback refers to this loader through its frames, a cycle that would outlive a reload.
            self.unreadable = error.with_traceback(None)
            return
        self.unreadable = None
        if isinstance(result, Supplemented):
            self.credential, self.supplement = result.credential, result.supplement
        else:
            self.credential, self.supplement = result, None

    async def obtain(self) -> Credential:
        """Return the credential. If there is none, read the secrets in a thread, once for all waiting requests.

        Raises ProblemError (credential_unavailable) that names the key. Reads at most once a second.
        """
        if self.credential is None and not self._refresh.blocked:
            await self._refresh.start_or_wait(self._load_in_thread)
        if self.credential is None:
            raise ProblemError(self._problem)
        return self.credential

    async def obtain_again(self) -> Credential:
        """Read the secrets in a thread even if there is a credential, and return it. Otherwise as `obtain`."""
        if not self._refresh.blocked:
            await self._refresh.start_or_wait(self._load_in_thread)
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
