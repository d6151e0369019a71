"""The content of a config's files, to be joined with the content of a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidekey.authority.rules import CaRules
from sidekey.core.callers import Caller
from sidekey.runtime.admin_rules import AdminRules
from sidekey.runtime.snapshot import Integration, Listen, Log, Preset, Trust
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings.callers import Digests
from sidekey.settings.config_errors import Table
from sidekey.settings.entries import Entry
from sidekey.settings.models import GlobalSettings


@dataclass(frozen=True, slots=True, eq=False)
class FileSide:
    """The result of a load without errors, with which the next load compares.

    `integrations` are those of `entries`. `callers` are by the SHA-256 of their tokens, `digests` by their names.
    `trust` is the network's. `log_file` is the last one that was found writable. Presets are not checked beside their
    integrations yet, some of which may be in the store.
    """

    settings: GlobalSettings
    entries: Mapping[str, Entry[Table]]
    integrations: Mapping[str, Integration]
    callers: Mapping[bytes, Caller]
    digests: Digests
    trust: Trust
    ca: CaRules
    store: StoreRules | None
    admin: AdminRules
    presets: Mapping[str, Preset]
    listen: Listen
    log: Log
    log_file: str | None

    @property
    def stored_at(self) -> frozenset[str]:
        """The host names at and under which stored integrations are matched."""
        return frozenset(self.settings.ca.hosts)
