"""The log of events: structlog, one JSON object a line, through the same writer as the access log.

A line begins with `timestamp`, `level` and `event`; what the event holds follows in the order given. `event` is a fixed
text, what varies is under keys. No line holds a traceback or a library's message: exceptions are logged by `describe`,
and an exception under any key shows its type alone.
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
    """What structlog hands a rendered line to, by a method named as the level is."""

    def __init__(self, writer: LineWriter) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = writer.write


class _Renderer:
    """A structlog processor: renders the event as a JSON line, in the shape of the access log's."""

    def __init__(self) -> None:
        self._clock = Clock()

    def __call__(self, _: object, level: str, event: MutableMapping[str, Any]) -> bytes:
        line = {"timestamp": self._clock.stamp(), "level": level, "event": event.pop("event", None), **event}
        # An object that JSON does not know shows its type only: its text may hold anything.
        return json.dumps(line, separators=(",", ":"), default=_type_name).encode("ascii") + b"\n"


def _type_name(value: object) -> str:
    return type(value).__name__


def configure(level: str, writer: LineWriter) -> None:
    """Send events of this level (debug, info, warning, error) and above to the writer, from now on."""
    structlog.configure(
        processors=[_Renderer()],
        wrapper_class=_logger_of(level),
        logger_factory=lambda *_: _Lines(writer),
    )


def _logger_of(level: str) -> type[FilteringBoundLogger]:
    return structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])


class LogLevel:
    """Keeps the log, which was configured before with `level`, at the level of the snapshot in use."""

    def __init__(self, level: str) -> None:
        self._level = level

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Get ready to log by the level of another snapshot; the result does so from the next step of the loop on.

        What is logged in the same step goes by the former level, whichever part commits first.
        """
        level = snapshot.log.level
        change = partial(structlog.configure, wrapper_class=_logger_of(level))

        def commit() -> None:
            if level != self._level:
                self._level = level
                asyncio.get_running_loop().call_soon(change)

        return commit


class LogOutput:
    """Keeps the lines of a writer where the snapshot in use wants them, and in the form that it wants.

    `log` is what the writer's output was opened for (`open_log`).
    """

    def __init__(self, writer: LineWriter, log: Log) -> None:
        self._writer = writer
        self._log = log

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Open what another snapshot wants; the result writes there from then on. Raises Refused."""
        log, former = snapshot.log, self._log
        if (log.file, log.format) == (former.file, former.format):
            return partial(self._commit, log, None)
        return partial(self._commit, log, open_log(log))

    def _commit(self, log: Log, output: Output | None) -> None:
        self._log = log
        if output is not None:
            self._writer.use(output, tell=True)


def open_log(log: Log) -> Output:
    """Open where lines go. Raises Refused."""
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
    """Make a logger that adds `context` to each event. It follows a later `configure`."""
    return cast(FilteringBoundLogger, structlog.get_logger(**context))


def report_defect(exc: BaseException, request_id: str = "") -> str:
    """Log a defect of ours without its message; returns the id to find it by, which may be shown.

    It is the id of the request that the defect is of, where there is one.
    """
    found_by = {"request_id": request_id} if request_id else {"id": secrets.token_hex(6)}
    get_logger().error("defect", **found_by, **describe(exc))
    (defect,) = found_by.values()
    return defect
