"""The access log: one JSON line a request, in the shape of every other log line, built by hand because it is hot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from json.encoder import encode_basestring_ascii as quote
from typing import Final

from sidekey.observe.clock import Clock
from sidekey.observe.writer import LineWriter
from sidekey.runtime.snapshot import Snapshot

FIELDS: Final[tuple[tuple[str, str], ...]] = (
    ("timestamp", "When the line was written: ISO 8601, UTC, microseconds."),
    ("level", "`info`, or `warning` where `code` or `reason` is set or `status` is 400 or more."),
    ("event", "`request`."),
    (
        "request_id",
        "The id of the request or of the CONNECT, as in `Sidekey-Request-Id` of its response and `instance` of a "
        "problem. Other log lines about it have it too.",
    ),
    (
        "integration",
        "The ID of the integration that the request names or belongs to, also where it was denied. `unknown` where it "
        "names none that is configured, `-` where it passes without a credential.",
    ),
    ("caller", "The name of the caller whose token the request gave; null where no caller is configured or known."),
    ("door", "`reverse`, `forward`, `tunnel` (a CONNECT, and each request in a tunnel) or `preset`."),
    ("method", "The method of the request; of a preset its own. Empty where the request could not be read."),
    (
        "host",
        "The host of the target, also where it was denied. Null where the target could not be read: a password may "
        "stand where the host belongs.",
    ),
    ("port", "The port of the target; null where `host` is."),
    ("status", "The status that the caller got; 0 where it left before."),
    ("code", "The code of Sidekey's own response, or `caller_gone`; null where the upstream has responded."),
    (
        "reason",
        "The `detail` of Sidekey's own response: what the caller got, or would have got of a response that was cut. Of "
        "a tunnel that was granted: why TLS in it failed. Null without one.",
    ),
    ("error", "The error type of `Proxy-Status` (RFC 9209) of the same; null without one."),
    (
        "attempt",
        "`retried`: sent again on a new connection, since a kept one had closed. `replayed`: sent again with a newer "
        "token. `retried,replayed`: both. Null: sent once, or never.",
    ),
    (
        "trace_id",
        "The trace ID of the caller's `traceparent` (W3C Trace Context), 32 hexadecimal digits; null without a valid "
        "one.",
    ),
    (
        "peer",
        "Address and port of whoever connected to Sidekey, or `unix`, or `unknown` of who had reset the connection by "
        "then; null for a request that Sidekey itself made.",
    ),
    ("upstream", "Address and port of the connection that carried the request; null where none did."),
    (
        "duration",
        "Seconds from the first byte of the request to the last byte of its response. Of a tunnel: to its end.",
    ),
    ("grant", "Seconds that the request waited for a token or a client certificate; null where it did not."),
    ("connect", "Seconds that the request waited for a connection to the upstream; null where one was free."),
    (
        "first_byte",
        "Seconds from when the request was written to the upstream, all of it or what had come of it before the "
        "response, to the head of the response; null where none has come.",
    ),
    ("bytes_in", "Bytes of the request's body. Of a tunnel whose bytes pass: what the caller has sent."),
    ("bytes_out", "Bytes of the response with its head. Of a tunnel whose bytes pass: what the caller was sent."),
    ("preset", "The ID of the preset; only where the request came by one."),
    ("target", "Path and query, or the URL, as it came; only with `log.path: true`, and where it could be read."),
)
"""The keys of a line, in their order, and what each of them says."""

_WAITED_FOR_NOTHING: Final = ',"grant":null,"connect":null,"first_byte":'

_KNOWN: Final = 1024
"""How many spellings of what lines have in common are kept."""


class AccessLine:
    """What one line says; the keys are those of `FIELDS`. What is empty, 0 or None there is logged as null.

    But for `method` and `status`, which are logged as they are. `preset` and `target` are left out where they are
    empty, and `target` where the config does not ask for it.
    """

    __slots__ = (
        "attempt",
        "bytes_in",
        "bytes_out",
        "caller",
        "code",
        "connect",
        "door",
        "duration",
        "error",
        "first_byte",
        "grant",
        "host",
        "integration",
        "method",
        "peer",
        "port",
        "preset",
        "reason",
        "request_id",
        "status",
        "target",
        "trace_id",
        "upstream",
    )

    def __init__(  # noqa: PLR0917 - one argument a key
        self,
        request_id: str,
        integration: str,
        caller: str,
        door: str,
        method: str,
        status: int,
        duration: float,
        bytes_in: int,
        bytes_out: int,
        host: str = "",
        port: int = 0,
        code: str = "",
        reason: str = "",
        error: str = "",
        attempt: str = "",
        trace_id: str = "",
        peer: str = "",
        upstream: str = "",
        grant: float = 0.0,
        connect: float = 0.0,
        first_byte: float = 0.0,
        preset: str = "",
        target: str | None = None,
    ) -> None:
        self.request_id: Final = request_id
        self.integration: Final = integration
        self.caller: Final = caller
        self.door: Final = door
        self.method: Final = method
        self.status: Final = status
        self.duration: Final = duration
        self.bytes_in: Final = bytes_in
        self.bytes_out: Final = bytes_out
        self.host: Final = host
        self.port: Final = port
        self.code: Final = code
        self.reason: Final = reason
        self.error: Final = error
        self.attempt: Final = attempt
        self.trace_id: Final = trace_id
        self.peer: Final = peer
        self.upstream: Final = upstream
        self.grant: Final = grant
        self.connect: Final = connect
        self.first_byte: Final = first_byte
        self.preset: Final = preset
        self.target: Final = target


_Key = tuple[str, str, str, str, str, int, int, str, str, str, str]


class AccessLog:
    """Writes the result of each request, as `log.access` (off, errors, all) of the config asks, whatever `log.level`.

    The caller of `write` branches on `every` and `errors` first: `every` asks for all requests, `errors` for those
    whose status is 400 or more or that ended in a code of ours (errors.KINDS, CALLER_GONE).
    """

    __slots__ = ("_clock", "_known", "_path", "_put", "errors", "every")

    def __init__(self, writer: LineWriter, mode: str, path: bool) -> None:
        self._put = writer.write
        self._clock = Clock()
        self._known: dict[_Key, tuple[str, str]] = {}
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
        key = (
            line.integration,
            line.caller,
            line.door,
            line.method,
            line.host,
            line.port,
            line.status,
            line.code,
            line.reason,
            line.error,
            line.attempt,
        )
        known = self._known.get(key)
        if known is None:
            known = _spell(line)
            if len(self._known) >= _KNOWN:
                # A caller may send each request to another host.
                self._known.clear()
            self._known[key] = known
        before, behind = known
        end = f',"target":{quote(line.target)}' if self._path and line.target is not None else ""
        if line.preset:
            end = f',"preset":{quote(line.preset)}{end}'
        duration = "%.6f" % line.duration  # noqa: UP031 - an f-string's format is half as fast once it is compiled
        waits = _WAITED_FOR_NOTHING
        if line.grant or line.connect:
            waits = f',"grant":{_seconds(line.grant)},"connect":{_seconds(line.connect)},"first_byte":'
        # Equal where nothing but the response was waited for, and all of it came at once.
        first_byte = duration if line.first_byte == line.duration != 0.0 else _seconds(line.first_byte)
        self._put(
            (
                f'{{"timestamp":"{self._clock.stamp()}{before}{quote(line.request_id)}{behind}'
                f'"trace_id":{_text(line.trace_id)},"peer":{_text(line.peer)},"upstream":{_text(line.upstream)}'
                f',"duration":{duration}{waits}{first_byte},"bytes_in":{line.bytes_in},"bytes_out":{line.bytes_out}'
                f"{end}}}\n"
            ).encode("ascii")
        )


def _spell(line: AccessLine) -> tuple[str, str]:
    """What lines of the same key have in common: between the timestamp and the request's id, and from there on."""
    level = "info" if line.status < 400 and not (line.code or line.reason) else "warning"
    return (
        f'","level":"{level}","event":"request","request_id":',
        f',"integration":{quote(line.integration)},"caller":{_text(line.caller)},"door":{quote(line.door)}'
        f',"method":{quote(line.method)},"host":{_text(line.host)},"port":{line.port or "null"}'
        f',"status":{line.status},"code":{_text(line.code)},"reason":{_text(line.reason)},"error":{_text(line.error)}'
        f',"attempt":{_text(line.attempt)},',
    )


def _text(value: str) -> str:
    return quote(value) if value else "null"


def _seconds(value: float) -> str:
    return "%.6f" % value if value else "null"  # noqa: UP031 - as above
