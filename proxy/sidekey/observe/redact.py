"""What may be said of an exception or a log entry: where and of which type, never a message, an argument or a local.

Messages of libraries hold URLs, headers and bodies, and with them secrets (design.md, "Never" 2). So a defect is
described by the types of its chain and the places of our own code in its traceback.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any

from sidekey.errors import ProblemError

REDACTED = "REDACTED"

_LONGEST = 20
"""Entries of a chain or a traceback that are described; a recursion can make thousands."""

_SECRET_WORDS = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "cookie",
    "api_key",
    "apikey",
    "private_key",
)


def describe(exc: BaseException) -> dict[str, list[str]]:
    """Describe an exception without a word of its message.

    `error` names the types from the raised one to its root cause, `at` the places of our own code from the outermost
    to the innermost, and the place of the raise itself, as `module:line function`.
    """
    chain = list(_chain(exc))
    places = list(_places(chain[-1].__traceback__)) if len(chain) > 1 else []
    return {"error": [_name(link) for link in chain], "at": list(dict.fromkeys([*_places(exc.__traceback__), *places]))}


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen and len(seen) < _LONGEST:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _name(exc: BaseException) -> str:
    """Name the type, with what of the exception is a word from a closed set: errno, code, members of a group."""
    name = type(exc).__name__
    if isinstance(exc, ProblemError):
        return f"{name}({exc.problem.code})"
    if isinstance(exc, BaseExceptionGroup):
        return f"{name}({', '.join(_name(member) for member in exc.exceptions[:_LONGEST])})"
    if isinstance(exc, OSError) and (word := errno.errorcode.get(exc.errno or 0)):
        return f"{name}({word})"
    return name


def _places(trace: TracebackType | None) -> list[str]:
    places = []
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "?")
        if module.partition(".")[0] == "sidekey" or trace.tb_next is None:
            places.append(f"{module}:{trace.tb_lineno} {trace.tb_frame.f_code.co_qualname}")
        trace = trace.tb_next
    return places[-_LONGEST:]


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make an event safe, as a structlog processor: describe exceptions, replace values under secret-looking keys."""
    exc = _exception(event.pop("exc_info", None))
    for name in ("exception", "stack", "stack_info"):
        event.pop(name, None)
    if exc is not None:
        event.update(describe(exc))
    for key, value in event.items():
        event[key] = _safe(key, value)
    return event


def _exception(exc_info: object) -> BaseException | None:
    """Find the exception an `exc_info` means: itself, a triple as of sys.exc_info(), or true for the current one."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return next((part for part in exc_info if isinstance(part, BaseException)), None)
    return sys.exception() if exc_info else None


def _safe(key: str, value: object) -> object:
    """Reduce a value to what may be logged under this key."""
    plain = key.lower().replace("-", "_")
    if value is not None and any(word in plain for word in _SECRET_WORDS):
        return REDACTED
    if isinstance(value, BaseException):
        return _name(value)
    if isinstance(value, Mapping):
        return {str(inner): _safe(str(inner), content) for inner, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(key, content) for content in value]
    return value
