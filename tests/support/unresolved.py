"""An unresolved integration: the values that decide where its credential may go cannot be read yet."""

from __future__ import annotations

from dataclasses import replace

from sidekey.credentials.base import FixedCredential
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy.targets import Policy
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration
from support.plane import GRANT


class Missing:
    """An integration that is unresolved until `appear` is called."""

    def __init__(self, complete: Integration) -> None:
        self._there = False
        self._made = complete
        self._secrets = SecretLoader(self._load)
        self._secrets.load()

    def _load(self) -> FixedCredential:
        if not self._there:
            raise SecretUnreadable(((("endpoint_prefix",), "the file does not exist"),))
        return FixedCredential(GRANT)

    def appear(self) -> None:
        """Make all of it readable."""
        self._there = True
        self._secrets.load()

    def integration(self) -> Integration:
        """Build the integration without the missing values, as a config load does."""
        return replace(self._made, policy=Policy(), base=None, secrets=self._secrets, rebuild=self._rebuild)

    def _rebuild(self) -> Integration:
        return self._made if self._there else self.integration()
