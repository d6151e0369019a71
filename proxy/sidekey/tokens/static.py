"""Grant source of an integration whose grants do not expire."""

from __future__ import annotations

from sidekey.credentials.base import FixedCredential, Grant
from sidekey.snapshot.secret_loader import SecretLoader


class StaticSource:
    """Hands out the grant of an integration whose credential is fixed."""

    __slots__ = ("_secrets", "grant")

    def __init__(self, secrets: SecretLoader) -> None:
        self._secrets = secrets
        credential = secrets.credential
        self.grant: Grant | None = None if credential is None else _grant(credential)

    def __repr__(self) -> str:
        return f"StaticSource({self.grant!r})"

    async def obtain(self) -> Grant:
        """Read the secrets again and return the grant. Raises ProblemError (credential_unavailable)."""
        self.grant = _grant(await self._secrets.obtain())
        return self.grant

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Return False: a fixed grant has no replacement."""
        del grant, status, body
        return False

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        """Return None: a fixed grant has no replacement."""
        del grant
        return None


def _grant(credential: object) -> Grant:
    if not isinstance(credential, FixedCredential):
        raise TypeError("a static source is for kinds whose grants do not expire")
    return credential.grant
