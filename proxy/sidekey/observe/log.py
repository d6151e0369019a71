"""The event log: structlog, one JSON object per line, through the same writer as the access log.

A line begins with `timestamp`, `level` and `event`, followed by the event's keys. `event` is a fixed text, and the keys
hold what varies. No line contains a traceback or a library's message: `describe` formats exceptions, and any other
object that is not JSON is logged as its type.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, cast

import structlog
from structlog.typing import FilteringBoundLogger

from sidekey.observe.clock import Clock
from sidekey.observe.exceptions import describe
from sidekey.observe.output import Output, open_file, open_standard_error
from sidekey.observe.writer import LineWriter
from sidekey.publish import PublishRefused
from sidekey.snapshot.snapshot import Log, Snapshot


class _Lines:
    """Logger object for structlog: one method per level."""

    def __init__(self, writer: LineWriter) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = writer.write


class _Renderer:
    """A structlog processor that renders the event as a JSON line."""

    def __init__(self) -> None:
        self._clock = Clock()

    def __call__(self, _: object, level: str, event: MutableMapping[str, Any]) -> bytes:
        line = {"timestamp": self._clock.stamp(), "level": level, "event": event.pop("event", None), **event}
        # The text of an object that is not JSON may contain a secret.
        return json.dumps(line, separators=(",", ":"), default=_type_name).encode("ascii") + b"\n"


def _type_name(value: object) -> str:
    return type(value).__name__


def configure(level: str, writer: LineWriter) -> None:
    """Log events of this level (debug, info, warning, error) and above to the writer."""
    structlog.configure(
        processors=[_Renderer()],
        wrapper_class=_logger_of(level),
        logger_factory=lambda *_: _Lines(writer),
    )


def _logger_of(level: str) -> type[FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])


class LogLevel:
    """Switches the log to the level of each new snapshot. `level` is the one that `configure` has set."""

    def __init__(self, level: str) -> None:
        self._level = level

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare for a new snapshot. The returned commit switches to its level in the next step of the event loop.

        So the order of commits does not matter: every commit of this step logs with the previous level.
        """
        level = snapshot.log.level
        change = partial(structlog.configure, wrapper_class=_logger_of(level))

        def commit() -> None:
            if level != self._level:
                self._level = level
                asyncio.get_running_loop().call_soon(change)

        return commit


class LogOutput:
    """Switches a writer to the log file and format of each new snapshot. `log` has the current settings."""

    def __init__(self, writer: LineWriter, log: Log) -> None:
        self._writer = writer
        self._log = log

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Open the output of a new snapshot. The returned commit switches to it. Raises PublishRefused."""
        log, previous = snapshot.log, self._log
        if (log.file, log.format) == (previous.file, previous.format):
            return partial(self._commit, log, None)
        return partial(self._commit, log, open_log(log))

    def _commit(self, log: Log, output: Output | None) -> None:
        self._log = log
        if output is not None:
            self._writer.switch_to(output, announce=True)


def open_log(log: Log) -> Output:
    """Open the output of the log. Raises PublishRefused."""
    if log.file is None:
        return open_standard_error(log.format)
    try:
        return open_file(log.file, log.format)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise PublishRefused(
            f"log.file: {log.file} cannot be opened for writing: {reason}: change that, or the path"
        ) from None


def get_logger(**context: object) -> FilteringBoundLogger:
    """Return a logger that adds `context` to each event. It follows a later `configure`."""
    return cast(FilteringBoundLogger, structlog.get_logger(**context))


def report_defect(exc: BaseException, request_id: str = "") -> str:
    """Log a defect in Sidekey without its message. Return the request ID or a random ID, to find the line by."""
    identifier = {"request_id": request_id} if request_id else {"id": secrets.token_hex(6)}
    get_logger().error("defect", **identifier, **describe(exc))
    (defect,) = identifier.values()
    return defect
