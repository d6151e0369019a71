"""What the API needs of the process that it is part of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sidekey.runtime.snapshot import Integration, Snapshot, TestRequest

if TYPE_CHECKING:
    from sidekey.probe import Outcome
    from sidekey.settings.stored.opening import Vault
    from sidekey.store.state import State
    from sidekey.store.store import Store


class Gateway(ABC):
    """A running process with a store."""

    store: Store

    @property
    @abstractmethod
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""

    @property
    @abstractmethod
    def vault(self) -> Vault:
        """What values of the store are sealed with."""

    @abstractmethod
    async def use(self, state: State) -> None:
        """Return once this state of the store, or a later one, is in use."""

    @abstractmethod
    async def probe(self, name: str, test: TestRequest) -> Outcome:
        """Send the test request of the integration of this ID through the data plane."""

    @abstractmethod
    async def probe_draft(self, draft: Integration, test: TestRequest) -> Outcome:
        """Send the test request of an integration that nobody else may use."""
