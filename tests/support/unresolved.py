"""An unresolved integration: values that decide the destination of its credential are unreadable."""

from __future__ import annotations

from dataclasses import replace

from sidekey.credentials.base import FixedCredential
from sidekey.credentials.fields import SecretUnreadable
from sidekey.policy.targets import Policy
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration
from support.plane import GRANT


class UnresolvedIntegration:
    """An integration that is unresolved until `resolve` is called."""

    def __init__(self, complete: Integration) -> None:
        self._resolved = False
        self._complete = complete
        self._secrets = SecretLoader(self._load)
        self._secrets.load()

    def _load(self) -> FixedCredential:
        if not self._resolved:
            raise SecretUnreadable(((("endpoint_prefix",), "the file does not exist"),))
        return FixedCredential(GRANT)

    def resolve(self) -> None:
        """Make every value readable."""
        self._resolved = True
        self._secrets.load()

    def integration(self) -> Integration:
        """Build the integration without the missing values, as a config load does."""
        return replace(self._complete, policy=Policy(), base=None, secrets=self._secrets, rebuild=self._rebuild)

    def _rebuild(self) -> Integration:
        return self._complete if self._resolved else self.integration()
