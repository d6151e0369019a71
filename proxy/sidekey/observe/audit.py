"""The audit in the log: which credential was used by whom, where the config asks for it, and each change of the config.

Lines are written whatever `log.level` says, and are lost like all others where nobody reads them (decision 0012).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final, Literal

from sidekey.observe.access import AccessLine, quoted
from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.publish import Changes
from sidekey.snapshot.snapshot import Snapshot

Source = Literal["files", "store"]

MAX_PATHS: Final = 100
"""Paths in each list of a line."""


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
        """Log which keys of the config have changed, if any. Of each list the first `MOST` paths are logged."""
        paths = {f"{key}_keys": getattr(changes, key) for key in ("added", "removed", "changed")}
        if not any(paths.values()):
            return
        line: dict[str, Any] = {
            "timestamp": self._clock.stamp(),
            "level": "info",
            "event": "config changed",
            "source": source,
            "by": by,
            "revision": changes.revision,
            **{key: found[:MAX_PATHS] for key, found in paths.items()},
            "omitted": {key: len(found) - MAX_PATHS for key, found in paths.items() if len(found) > MAX_PATHS},
        }
        line = {key: value for key, value in line.items() if value}
        self._put(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n")
