"""The audit in the log: which credential was used by whom, where the config asks for it, and each change of the config.

Lines are written whatever `log.level` says, and are lost like all others where nobody reads them (decision 0012).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.runtime.changes import Changes
from sidekey.runtime.snapshot import Snapshot

Source = Literal["files", "store"]

CHANGE_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`."),
    ("event", "`config changed`."),
    ("source", "`files`, or `store` where only what the store says has changed."),
    (
        "by",
        "Of a store: names of the operators whose changes are known to be in it. Those of other processes are not: the "
        "store's own audit has who made which `revision`.",
    ),
    ("revision", "The revision of the store; only where it has changed."),
    ("integrations", "`added`, `removed` and `changed`: lists of IDs. Likewise `presets`, and `callers` by name."),
    (
        "secrets",
        "Where secrets are written that have other values than before, such as `integrations.crm.auth.password`; never "
        "a value, length or hash. Files of client certificates are not among them: they have lines of their own.",
    ),
    ("settings", "Other keys of the config that have changed, such as `limits.in_flight`."),
    (
        "granted",
        "Who may use what since and could not before: a list of `caller`, and `integration` or `preset`; `*` stands "
        "for all.",
    ),
    (
        "widened",
        "Integrations that may reach more than before: a list of `integration`, `key` (`endpoint_prefix`, "
        "`allowed_domains`, `methods` or `allow_private`), and its values, `from` and `to`.",
    ),
    ("omitted", "How many entries each list has beyond its first 20; only where one has."),
)
"""The keys of a line of a change, in their order; those that would be empty are left out."""


class AuditLog:
    """Writes the audit. The caller of `use` branches on `uses` first, which is what `log.audit` asks for."""

    __slots__ = ("_clock", "_put", "uses")

    def __init__(self, writer: LineWriter, mode: str) -> None:
        self._put = writer.write
        self._clock = Clock()
        self._set(mode)

    def _set(self, mode: str) -> None:
        self.uses = mode == "uses"

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to write as another snapshot asks; the result does so from then on."""
        return partial(self._set, snapshot.log.audit)

    def change(self, changes: Changes, source: Source, by: tuple[str, ...] = ()) -> None:
        """Log what differs between a config and the one that took its place, if anything does."""
        if not changes:
            return
        line = {"timestamp": self._clock.stamp(), "level": "info", "event": "config changed", "source": source}
        who = {"by": list(by)} if by else {}
        self._put(json.dumps({**line, **who, **changes.told()}, separators=(",", ":")).encode("ascii") + b"\n")
