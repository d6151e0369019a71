"""An integration of which nothing is known at first: what decides where its credential may go cannot be read yet."""

from __future__ import annotations

from dataclasses import replace

from sidekey.credentials.base import FixedCredential
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy.targets import Policy
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration
from support.plane import GRANT


class Missing:
    """Nothing is known of the integration until `appear` is called."""

    def __init__(self, made: Integration) -> None:
        self._there = False
        self._made = made
        self._secrets = SecretLoader(self._load)
        self._secrets.load()

    def _load(self) -> FixedCredential:
        if not self._there:
            raise SecretUnreadable(((("endpoint_prefix",), "the file does not exist"),))
        return FixedCredential(GRANT)

    def appear(self) -> None:
        """From now on all of it can be read."""
        self._there = True
        self._secrets.load()

    def integration(self) -> Integration:
        """As a config is loaded without what is missing."""
        return replace(self._made, policy=Policy(), base=None, secrets=self._secrets, rebuild=self._rebuild)

    def _rebuild(self) -> Integration:
        return self._made if self._there else self.integration()
