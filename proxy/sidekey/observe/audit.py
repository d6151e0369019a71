"""The audit in the log: which credential was used by whom, where the config asks for it, and each change of the config.

Lines are written whatever `log.level` says, and are lost like all others where nobody reads them (decision 0012).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Final, Literal

from sidekey.observe.access import AccessLine, quoted
from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.runtime.changes import Changes
from sidekey.runtime.snapshot import Snapshot

Source = Literal["files", "store"]

USE_FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`."),
    ("event", "`credential used`."),
    ("request_id", "The id of the request, as in its access line and in `Sidekey-Request-Id` of its response."),
    (
        "by",
        "`caller`, or `operator`: a test that Sidekey itself has sent, for the API, the console, `sidekey test` or "
        "`sidekey preset test`.",
    ),
    ("caller", "The name of the caller whose token the request gave; null where callers are not asked for one."),
    ("peer", "Address and port of whoever connected to Sidekey, or `unix` or `unknown`; null for `operator`."),
    ("integration", "The ID of the integration whose credential was sent."),
    ("preset", "The ID of the preset that the request came by; null without one."),
    ("method", "The method of the request; of a preset its own."),
    ("host", "The host that it was sent to."),
    ("port", "The port of the same."),
    ("status", "The status that the caller got; 0 where it left before."),
    ("code", "The code of Sidekey's own response, or `caller_gone`; null where the upstream has responded."),
)
"""The keys of a line of a use, in their order."""

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
        "`allowed_domains`, `methods` or `allow_private`), and its values, `from` and `to`: the first 20, those first "
        "that the other lacks. The path of a prefix is `/...` where one of the integration is read from a file or a "
        "variable, since it may be a secret.",
    ),
    (
        "omitted",
        "How many entries each list has beyond its first 20; only where one has. Of `granted` and `widened`, which go "
        "on in further lines with nothing else, beyond the first 1000.",
    ),
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

    def use(self, line: AccessLine) -> None:
        """Log that a request was sent with a credential; `line` is what the access log says of it."""
        by = "caller" if line.peer else "operator"
        self._put(
            (
                f'{{"timestamp":"{self._clock.stamp()}","level":"info","event":"credential used"'
                f',"request_id":{quote(line.request_id)},"by":"{by}","caller":{quoted(line.caller)}'
                f',"peer":{quoted(line.peer)},"integration":{quote(line.integration)},"preset":{quoted(line.preset)}'
                f',"method":{quote(line.method)},"host":{quoted(line.host)},"port":{line.port or "null"}'
                f',"status":{line.status},"code":{quoted(line.code)}}}\n'
            ).encode("ascii")
        )

    def change(self, changes: Changes, source: Source, by: tuple[str, ...] = ()) -> None:
        """Log what differs between a config and the one that took its place, if anything does."""
        if not changes:
            return
        line = {"timestamp": self._clock.stamp(), "level": "info", "event": "config changed", "source": source}
        who = {"by": list(by)} if by else {}
        for told in changes.told():
            self._put(json.dumps({**line, **who, **told}, separators=(",", ":")).encode("ascii") + b"\n")
