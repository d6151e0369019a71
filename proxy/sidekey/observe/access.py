"""The access log: one JSON line a request, in the shape of every other log line, built by hand because it is hot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote

from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.runtime.snapshot import Snapshot


class AccessLog:
    """Writes the result of each request, as `log.access` (off, errors, all) of the config asks, whatever `log.level`.

    The caller of `write` branches on `every` and `errors` first: `every` asks for all requests, `errors` for those
    whose status is 400 or more or that ended in a code of ours.
    """

    __slots__ = ("_clock", "_path", "_put", "errors", "every")

    def __init__(self, writer: LineWriter, mode: str, path: bool) -> None:
        self._put = writer.write
        self._clock = Clock()
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
        level = "info" if status < 400 and not code else "warning"
        path = f',"target":{quote(target)}' if self._path and target is not None else ""
        if preset:
            path = f',"preset":{quote(preset)}{path}'
        self._put(
            (
                f'{{"timestamp":"{self._clock.stamp()}","level":"{level}","event":"request","request_id":{quote(request_id)}'
                f',"integration":{quote(integration)}'
                f',"door":{quote(door)},"method":{quote(method)}'
                f',"host":{quote(host) if host else "null"},"status":{status}'
                f',"code":{quote(code) if code else "null"},"duration":{seconds:.6f}'
                f',"bytes_in":{bytes_in},"bytes_out":{bytes_out}{path}}}\n'
            ).encode("ascii")
        )
