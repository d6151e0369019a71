"""The audit log: each use of a credential, if the config enables it, and each change of the config.

`log.level` does not apply to these lines. Like all log lines they are dropped if the output stalls (decision 0012).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final, Literal

from sidekey.observe.access import AccessLine, quote_or_null
from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.publish import Changes
from sidekey.snapshot.snapshot import Snapshot

Source = Literal["files", "store"]

MAX_PATHS: Final = 100
"""Maximum paths in each list of a line."""


class AuditLog:
    """Writes audit lines. The caller of `log_use` checks `logs_uses` first, which `log.audit` sets."""

    __slots__ = ("_clock", "_put", "logs_uses")

    def __init__(self, writer: LineWriter, mode: str) -> None:
        self._put = writer.write
        self._clock = Clock()
        self._set(mode)

    def _set(self, mode: str) -> None:
        self.logs_uses = mode == "uses"

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare for a new snapshot. The returned commit switches to its setting."""
        return partial(self._set, snapshot.log.audit)

    def log_use(self, line: AccessLine) -> None:
        """Log that a request was sent with a credential. `line` is its access log line."""
        by = "caller" if line.peer else "operator"
        self._put(
            (
                f'{{"timestamp":"{self._clock.stamp()}","level":"info","event":"credential used"'
                f',"request_id":{quote(line.request_id)},"by":"{by}","caller":{quote_or_null(line.caller)}'
                f',"peer":{quote_or_null(line.peer)},"integration":{quote(line.integration)},"preset":{quote_or_null(line.preset)}'
                f',"method":{quote(line.method)},"host":{quote_or_null(line.host)},"port":{line.port or "null"}'
                f',"status":{line.status},"code":{quote_or_null(line.code)}}}\n'
            ).encode("ascii")
        )

    def log_change(self, changes: Changes, source: Source, by: tuple[str, ...] = ()) -> None:
        """Log the changed keys of the config, if any: at most `MAX_PATHS` in each list."""
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
            **{key: keys[:MAX_PATHS] for key, keys in paths.items()},
            "omitted": {key: len(keys) - MAX_PATHS for key, keys in paths.items() if len(keys) > MAX_PATHS},
        }
        line = {key: value for key, value in line.items() if value}
        self._put(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n")
