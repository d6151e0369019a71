"""What a load keeps for the next one, and how an unchanged integration is recognised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sidekey.authority.rules import CaRules
from sidekey.runtime import snapshot
from sidekey.runtime.admin_rules import AdminRules
from sidekey.runtime.store_rules import StoreRules
from sidekey.settings.build import Digests
from sidekey.settings.config_errors import Finding, Row, Table
from sidekey.settings.models import CaSettings
from sidekey.settings.release_gradually import release_gradually
from sidekey.settings.secrets import Stamps
from sidekey.settings.source import Files
from sidekey.settings.stamps import Looks

Found = tuple[Finding, ...]
"""What is to be said of an integration, by its places in it."""


class Entry(NamedTuple):
    """An integration that was built, and all that it was built of.

    `trust` is the network's where the integration goes by that, `files` were read for it. `warnings`, `unreadable` and
    `kept` are without the client certificate's, whose loader has its own. Where `kept` is not empty,
    reading `files` failed, and the integration is one that was built before.
    """

    raw: Table
    integration: snapshot.Integration
    trust: snapshot.Trust | None
    files: Stamps
    warnings: Found
    unreadable: Found
    kept: Found = ()

    def is_written(self, raw: Table, trust: snapshot.Trust) -> bool:
        """Whether the config still says the same about it: `raw` is its mapping, `trust` the network's."""
        if self.trust is not None and (self.trust.source, self.trust.path) != (trust.source, trust.path):
            return False
        return same(self.raw, raw)

    def is_current(self, trust: snapshot.Trust, looks: Looks) -> bool:
        """Whether what it was built of, beside what is written, is the same as well."""
        # Every file is checked, whatever the result of the ones before: all of them must be watched.
        changed = [path for path, stamp in self.files if looks(path) != stamp]
        return not changed and (self.trust is None or self.trust == trust)


class PresetEntry(NamedTuple):
    """A preset that was built, and its mapping."""

    raw: Table
    preset: snapshot.Preset


@dataclass(slots=True)
class Memory:
    """What the last good load read, by integration, caller and preset."""

    entries: dict[str, Entry] = field(default_factory=dict)
    digests: Digests = field(default_factory=dict)
    presets: dict[str, PresetEntry] = field(default_factory=dict)
    trust: snapshot.Trust | None = None
    """The network's."""
    files: Files = field(default_factory=dict)
    listen: snapshot.Listen | None = None
    """Where the listeners listen; None before the first good load."""
    store: StoreRules | None = None
    """The store; None where there is none."""
    admin: AdminRules = field(default_factory=AdminRules)
    log_file: str | None = None
    """The file that is logged to; None where there is none."""
    ca: tuple[CaSettings, CaRules] | None = None
    """What was written of the local CA, and what was made of it."""


def same(one: Any, other: Any) -> bool:
    """Whether two values of config files are the same, where true is not 1, and the order of keys counts."""
    if one is other:
        return True
    kind = one.__class__
    if kind is not other.__class__:
        return False
    if kind is Table:
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if kind is Row:
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def release_files(files: Files, kept: Iterable[Files]) -> None:
    """Empty the documents of `files` that are in none of those `kept`."""
    held = {id(parsed.document) for each in kept for parsed in each.values()}
    for parsed in files.values():
        if id(parsed.document) not in held:
            for value in parsed.document.values():
                if isinstance(value, Table):
                    release_gradually(value)
