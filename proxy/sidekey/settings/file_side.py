"""What the files of a config say, as far as it is built: to be joined with what the store says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sidekey.authority.rules import CaRules
from sidekey.runtime import snapshot
from sidekey.runtime.admin_rules import AdminRules
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings.models import GlobalSettings
from sidekey.settings.secrets import SecretReader


@dataclass(frozen=True, slots=True)
class FileSide:
    """One good load of the files. `trust` is the network's, `callers` are by the SHA-256 of their tokens.

    Whether `presets` belong to their integrations is not judged yet: some may be the store's.
    """

    settings: GlobalSettings
    integrations: Mapping[str, snapshot.Integration]
    callers: Mapping[bytes, snapshot.Caller]
    read: SecretReader
    trust: snapshot.Trust
    ca: CaRules
    store: StoreRules | None
    admin: AdminRules
    presets: Mapping[str, snapshot.Preset] = field(default_factory=dict)

    @property
    def stored_at(self) -> frozenset[str]:
        """The host names at and under which stored integrations are matched."""
        return frozenset(self.settings.ca.hosts)
