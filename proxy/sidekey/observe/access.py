"""The access log: one JSON line a request, in the shape of every other log line, built by hand because it is hot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Final, NamedTuple

from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.snapshot.snapshot import Snapshot

_WAITED_FOR_NOTHING: Final = ',"grant":null,"connect":null,"first_byte":'

_KNOWN: Final = 1024
"""How many spellings of what lines have in common are kept."""


class AccessLine(NamedTuple):
    """Values of one line, whose keys docs/logs.md lists. An empty value, 0 or None is logged as null.

    But for `method` and `status`, which are logged as they are. `preset` and `target` are left out where they are
    empty, and `target` where the config does not ask for it. What many lines have in common is first. A tuple is made
    in a quarter of the time that an object of as many attributes takes, if its values are given by position.
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


_COMMON: Final = AccessLine._fields.index("request_id")
"""How many values of a line are those that many have in common."""


class AccessLog:
    """Writes the result of each request, as `log.access` (off, errors, all) of the config asks, whatever `log.level`.

    The caller of `write` branches on `every` and `errors` first: `every` asks for all requests, `errors` for those
    whose status is 400 or more or that ended in a code of ours (errors.KINDS, CALLER_GONE).
    """

    __slots__ = ("_clock", "_known", "_path", "_put", "errors", "every")

    def __init__(self, writer: LineWriter, mode: str, path: bool) -> None:
        self._put = writer.write
        self._clock = Clock()
        self._known: dict[tuple[object, ...], tuple[str, str]] = {}
        self._set(mode, path)

    def _set(self, mode: str, path: bool) -> None:
        self.every = mode == "all"
        self.errors = mode != "off"
        self._path = path

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to write as another snapshot asks; the result does so from then on."""
        return partial(self._set, snapshot.log.access, snapshot.log.path)

    def write(self, line: AccessLine) -> None:
        """Log one finished exchange, or CONNECT."""
        common = line[:_COMMON]
        known = self._known.get(common)
        if known is None:
            known = _spell(line)
            if len(self._known) >= _KNOWN:
                # A caller may send each request to another host.
                self._known.clear()
            self._known[common] = known
        before, behind = known
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
                f'{{"timestamp":"{self._clock.stamp()}{before}{quote(line.request_id)}{behind}'
                f'{quote(trace) if trace else "null"},"peer":{quote(peer) if peer else "null"}'
                f',"upstream":{quote(upstream) if upstream else "null"},"duration":{duration}{waits}'
                # Equal where nothing but the response was waited for, and all of it came at once.
                f"{duration if first == seconds != 0.0 else _seconds(first)}"
                f',"bytes_in":{line.bytes_in},"bytes_out":{line.bytes_out}{end}}}\n'
            ).encode("ascii")
        )


def _spell(line: AccessLine) -> tuple[str, str]:
    """What lines of the same key have in common: between the timestamp and the request's id, and from there on."""
    level = "info" if line.status < 400 and not (line.code or line.reason) else "warning"
    return (
        f'","level":"{level}","event":"request","request_id":',
        f',"integration":{quote(line.integration)},"caller":{quoted(line.caller)},"door":{quote(line.door)}'
        f',"method":{quote(line.method)},"host":{quoted(line.host)},"port":{line.port or "null"}'
        f',"status":{line.status},"code":{quoted(line.code)},"reason":{quoted(line.reason)},"error":{quoted(line.error)}'
        f',"attempt":{quoted(line.attempt)},"trace_id":',
    )


def quoted(value: str) -> str:
    """A text as JSON; null where it is empty."""
    return quote(value) if value else "null"


def _seconds(value: float) -> str:
    return "%.6f" % value if value else "null"  # noqa: UP031 - as above
