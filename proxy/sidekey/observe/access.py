"""The access log: one JSON line per request. String formatting builds the line, since this code is hot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Final, NamedTuple

from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.snapshot.snapshot import Snapshot

_WAITED_FOR_NOTHING: Final = ',"grant":null,"connect":null,"first_byte":'

_MAX_PARTS: Final = 1024
"""Maximum entries in the cache of constant parts."""


class AccessLine(NamedTuple):
    """Values of one line. docs/logs.md lists its keys.

    An empty value, 0 or None is logged as null, except in `method` and `status`. An empty `preset` or `target` is
    omitted, and `target` also unless the config enables it. The fields before `request_id` have the same values in many
    lines. A tuple, created with positional arguments, takes a quarter of the time of an object with attributes.
    """

    integration: str
    caller: str
    door: str
    method: str
    host: str
    port: int
    status: int
    code: str
    reason: str
    error: str
    attempt: str
    request_id: str
    trace_id: str
    peer: str
    upstream: str
    duration: float
    grant: float
    connect: float
    first_byte: float
    bytes_in: int
    bytes_out: int
    preset: str = ""
    target: bytes | None = None


_CACHED_FIELDS: Final = AccessLine._fields.index("request_id")
"""Number of leading fields that make up the cached parts of a line."""


class AccessLog:
    """Writes a line for each request that `log.access` (off, errors, all) selects. `log.level` does not matter.

    The caller of `write` checks `logs_all` and `logs_errors` first. An error is a request with a status of 400 or more,
    or with a code of Sidekey (`errors.RESPONSE_KINDS`, `CALLER_GONE`).
    """

    __slots__ = ("_clock", "_parts", "_path", "_put", "logs_all", "logs_errors")

    def __init__(self, writer: LineWriter, mode: str, path: bool) -> None:
        self._put = writer.write
        self._clock = Clock()
        self._parts: dict[tuple[object, ...], tuple[str, str]] = {}
        self._set(mode, path)

    def _set(self, mode: str, path: bool) -> None:
        self.logs_all = mode == "all"
        self.logs_errors = mode != "off"
        self._path = path

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare for a new snapshot. The returned commit switches to its settings."""
        return partial(self._set, snapshot.log.access, snapshot.log.path)

    def write(self, line: AccessLine) -> None:
        """Log a finished exchange or CONNECT."""
        key = line[:_CACHED_FIELDS]
        parts = self._parts.get(key)
        if parts is None:
            parts = _constant_parts(line)
            if len(self._parts) >= _MAX_PARTS:
                # A caller may send each request to another host.
                self._parts.clear()
            self._parts[key] = parts
        start, middle = parts
        seconds, first, trace, peer, upstream = line.duration, line.first_byte, line.trace_id, line.peer, line.upstream
        duration = "%.6f" % seconds  # noqa: UP031 - an f-string's format is half as fast once it is compiled
        waits = _WAITED_FOR_NOTHING
        if line.grant or line.connect:
            waits = f',"grant":{_seconds(line.grant)},"connect":{_seconds(line.connect)},"first_byte":'
        end = ""
        if line.preset:
            end = f',"preset":{quote(line.preset)}'
        if self._path and line.target is not None:
            end += f',"target":{quote(line.target.decode("latin-1"))}'
        self._put(
            (
                f'{{"timestamp":"{self._clock.stamp()}{start}{quote(line.request_id)}{middle}'
                f'{quote(trace) if trace else "null"},"peer":{quote(peer) if peer else "null"}'
                f',"upstream":{quote(upstream) if upstream else "null"},"duration":{duration}{waits}'
                # Both are equal if the request waited for the response alone and the response arrived at once.
                f"{duration if first == seconds != 0.0 else _seconds(first)}"
                f',"bytes_in":{line.bytes_in},"bytes_out":{line.bytes_out}{end}}}\n'
            ).encode("ascii")
        )


def _constant_parts(line: AccessLine) -> tuple[str, str]:
    """Build the constant parts of a line: before and after the request ID."""
    level = "info" if line.status < 400 and not (line.code or line.reason) else "warning"
    return (
        f'","level":"{level}","event":"request","request_id":',
        f',"integration":{quote(line.integration)},"caller":{quote_or_null(line.caller)},"door":{quote(line.door)}'
        f',"method":{quote(line.method)},"host":{quote_or_null(line.host)},"port":{line.port or "null"}'
        f',"status":{line.status},"code":{quote_or_null(line.code)},"reason":{quote_or_null(line.reason)},"error":{quote_or_null(line.error)}'
        f',"attempt":{quote_or_null(line.attempt)},"trace_id":',
    )


def quote_or_null(value: str) -> str:
    """Write a text as a JSON string, or as null if it is empty."""
    return quote(value) if value else "null"


def _seconds(value: float) -> str:
    return "%.6f" % value if value else "null"  # noqa: UP031 - as above
