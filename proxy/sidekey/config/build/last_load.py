"""Decide what stays in use of the last load while a value of the config cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from sidekey.config.errors import FindingKind, Loc
from sidekey.config.models import GlobalSettings
from sidekey.credentials.fields import Keys

T = TypeVar("T")

NETWORK_CAS: Final[Keys] = ("network", "trusted_ca")
"""The keys of the CAs that verify the servers of all objects without CAs of their own."""


class LastLoad:
    """The settings of the last load without errors, compared with those of the load that runs now.

    The rule for every value that cannot be read: the last value stays in use only if all settings of the object that
    names it are unchanged, and for an object that connects to a server, the source of the network's CAs too. These
    settings say where the value comes from, what it opens, and where it goes. Otherwise, the object is unusable until
    the value can be read. `Builder.build` applies the same rule to integrations.

    `findings` are the values that could not be read, each with its location and the reason.
    """

    def __init__(self, previous: GlobalSettings | None, current: GlobalSettings) -> None:
        self.findings: list[tuple[FindingKind, Loc, str]] = []
        self._previous = previous
        self._current = current

    def keep(self, value: T | None, *objects: Keys, loc: Loc, reason: str, required: bool = False) -> T | None:
        """Note that the value at `loc` cannot be read. Return the `value` of the last load if the rule keeps it.

        `objects` are the keys of the objects that must be unchanged. Without a last value, a `required` one is an error
        of the config: Sidekey does not start, or refuses the reload and the config in use stays.
        """
        kept = value if all(map(self._is_unchanged, objects)) else None
        kind: FindingKind = "retained" if kept is not None else "error" if required else "unreadable"
        self.findings.append((kind, loc, reason))
        return kept

    def _is_unchanged(self, keys: Keys) -> bool:
        return self._previous is not None and _at(self._previous, keys) == _at(self._current, keys)


def _at(settings: GlobalSettings, keys: Keys) -> Any:
    value: Any = settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else getattr(value, key)
    return value
