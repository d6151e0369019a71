"""Describe an exception by type and place, without its message, arguments or locals.

Messages of libraries contain URLs, headers and bodies, and with them secrets. So a defect is described by the types of
its chain and by the places of Sidekey's own code in its traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from traceback import walk_tb
from types import TracebackType

import click

from sidekey.errors import ProblemError

_MAX_ENTRIES = 20
"""Entries of a chain or a traceback that are described; a recursion can make thousands."""


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
    while link is not None and id(link) not in seen and len(seen) < _MAX_ENTRIES:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _name(exc: BaseException) -> str:
    """Name the type, with what of the exception is a word from a closed set: errno, code, members of a group."""
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


def is_of_output(error: OSError) -> bool:
    """Whether it was raised where commands print, as on a disk that is full, and so is of nothing else."""
    *_, (innermost, _) = walk_tb(error.__traceback__)
    return innermost.f_code is click.echo.__code__
