"""Log uncaught exceptions, warnings, asyncio's errors and library logs without their messages.

By default each of these writes a traceback or a message to standard error, and either may contain a secret.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import warnings
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

from sidekey.observe.exceptions import describe
from sidekey.observe.log import get_logger

_FIXED_MESSAGES = (
    "Exception in callback",
    "Fatal error",
    "Fatal read error",
    "Fatal write error",
    "Future exception was never retrieved",
    "SSL error in data received",
    "SSL handshake failed",
    "Task exception was never retrieved",
    "Task was destroyed but it is pending",
    "Unclosed client session",
    "Unclosed connection",
    "Unclosed connector",
    "Unhandled exception in client_connected_cb",
    "an error occurred during closing of asynchronous generator",
    "socket.accept() out of system resource",
    "unhandled exception during asyncio.run() shutdown",
)
"""Fixed beginnings of the messages that asyncio, uvloop and aiohttp pass to the loop's exception handler. The rest may
be a repr."""


def install_safe_hooks(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Install hooks that log without messages, for the process and for this event loop."""
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread
    warnings.showwarning = _warning
    logging.root.handlers[:] = [SafeHandler(logging.WARNING)]
    logging.root.setLevel(logging.WARNING)
    if loop is not None:
        loop.set_exception_handler(_loop)


class SafeHandler(logging.Handler):
    """Logs the logger and the place of a library's record, and describes its exception.

    It logs the message only if that is a template with arguments: any other message may contain values already.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record, without its arguments."""
        exc = record.exc_info[1] if record.exc_info else None
        log = get_logger().error if record.levelno >= logging.ERROR else get_logger().warning
        log(
            "a library logged",
            logger=record.name,
            message=record.msg if record.args and isinstance(record.msg, str) else None,
            where=f"{record.module}:{record.lineno} {record.funcName}",
            **(describe(exc) if exc is not None else {}),
        )


def _uncaught(_: type[BaseException], exc: BaseException, __: TracebackType | None) -> None:
    get_logger().critical("uncaught exception", **describe(exc))


def _thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        name = args.thread.name if args.thread is not None else None
        get_logger().critical("uncaught exception in a thread", thread=name, **describe(args.exc_value))


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        get_logger().error("exception that could not be raised", **describe(args.exc_value))


def _loop(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    text = str(context.get("message"))
    exc = context.get("exception")
    get_logger().error(
        "the event loop reported an error",
        message=next((known for known in _FIXED_MESSAGES if text.startswith(known)), None),
        **(describe(exc) if isinstance(exc, BaseException) else {}),
    )


def _warning(  # noqa: PLR0917 - the signature of warnings.showwarning
    message: Warning | str,  # noqa: ARG001
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    get_logger().warning("a library warned", category=category.__name__, where=f"{PurePath(filename).name}:{lineno}")
