"""The access log: one JSON line a request, in the shape of every other log line, built by hand because it is hot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Final

from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.runtime.snapshot import Snapshot

_KNOWN: Final = 1024
"""How many spellings of what lines have in common are kept."""


class AccessLog:
    """Writes the result of each request, as `log.access` (off, errors, all) of the config asks, whatever `log.level`.

    The caller of `write` branches on `every` and `errors` first: `every` asks for all requests, `errors` for those
    whose status is 400 or more or that ended in a code of ours.
    """

    __slots__ = ("_clock", "_known", "_path", "_put", "errors", "every")

    def __init__(self, writer: LineWriter, mode: str, path: bool) -> None:
        self._put = writer.write
        self._clock = Clock()
        self._known: dict[tuple[str, str, str, str, int, str], tuple[str, str]] = {}
        self._set(mode, path)

    def _set(self, mode: str, path: bool) -> None:
        self.every = mode == "all"
        self.errors = mode != "off"
        self._path = path

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to write as another snapshot asks; the result does so from then on."""
        return partial(self._set, snapshot.log.access, snapshot.log.path)

    def write(  # noqa: PLR0917 - one argument a key; keywords cost a tenth of the line
        self,
        request_id: str,
        integration: str,
        door: str,
        method: str,
        host: str,
        status: int,
        code: str,
        seconds: float,
        bytes_in: int,
        bytes_out: int,
        target: str | None = None,
        preset: str = "",
    ) -> None:
        """Log one finished exchange.

        `integration` is `unknown` where none we know was named (an unknown ID is never logged), `host` is the target's
        or empty, `status` is 0 where the caller left before a response, `code` is one of ours (errors.KINDS,
        CALLER_GONE) or empty, `seconds` the duration, `bytes_in` the body bytes from the caller,
        `bytes_out` the bytes to it with the head.
        What is empty is logged as null. `target` (path and query) is logged only where the config asks for it with
        `log.path`, and `preset` where the request came by one.
        """
        key = (integration, door, method, host, status, code)
        known = self._known.get(key)
        if known is None:
            known = self._spell(integration, door, method, host, status, code)
            if len(self._known) >= _KNOWN:
                # A caller may send each request to another host.
                self._known.clear()
            self._known[key] = known
        before, behind = known
        path = f',"target":{quote(target)}' if self._path and target is not None else ""
        if preset:
            path = f',"preset":{quote(preset)}{path}'
        duration = "%.6f" % seconds  # noqa: UP031 - an f-string's format is half as fast once it is compiled
        self._put(
            (
                f'{{"timestamp":"{self._clock.stamp()}{before}{quote(request_id)}{behind}'
                f'{duration},"bytes_in":{bytes_in},"bytes_out":{bytes_out}{path}}}\n'
            ).encode("ascii")
        )

    def _spell(  # noqa: PLR0917 - as above
        self, integration: str, door: str, method: str, host: str, status: int, code: str
    ) -> tuple[str, str]:
        """What lines of these have in common: between the timestamp and the request's id, and from there on."""
        level = "info" if status < 400 and not code else "warning"
        return (
            f'","level":"{level}","event":"request","request_id":',
            f',"integration":{quote(integration)},"door":{quote(door)},"method":{quote(method)}'
            f',"host":{quote(host) if host else "null"},"status":{status}'
            f',"code":{quote(code) if code else "null"},"duration":',
        )
