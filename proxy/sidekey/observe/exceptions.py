"""Describe exceptions without their messages, and tell output errors from defects.

Messages of libraries contain URLs, headers and bodies, and with them secrets. So a description has the types of the
exception chain, and the places in Sidekey's code from the traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from traceback import walk_tb
from types import TracebackType

import click

from sidekey.errors import ProblemError

_MAX_ENTRIES = 20
"""Maximum entries of a chain or a traceback. A recursion can make thousands."""


def describe(exc: BaseException) -> dict[str, list[str]]:
    """Describe an exception without its message.

    `error` lists the types from the raised exception to its root cause. `at` lists places as `module:line function`:
    those of Sidekey's code from the outermost to the innermost, and the place of the raise.
    """
    chain = list(_chain(exc))
    places = list(_places(chain[-1].__traceback__)) if len(chain) > 1 else []
    return {"error": [_name(link) for link in chain], "at": list(dict.fromkeys([*_places(exc.__traceback__), *places]))}


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen and len(seen) < _MAX_ENTRIES:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _name(exc: BaseException) -> str:
    """Name the type, with its errno, problem code or group members, none of which can contain a secret."""
    name = type(exc).__name__
    if isinstance(exc, ProblemError):
        return f"{name}({exc.problem.code})"
    if isinstance(exc, BaseExceptionGroup):
        return f"{name}({', '.join(_name(member) for member in exc.exceptions[:_MAX_ENTRIES])})"
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
    return places[-_MAX_ENTRIES:]


def is_output_error(error: OSError) -> bool:
    """Return True if the error was raised while a command printed, for example because the disk is full."""
    *_, (innermost, _) = walk_tb(error.__traceback__)
    return innermost.f_code is click.echo.__code__
