"""observe/exceptions.py: an error of printing is told from any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import click
import pytest

from sidekey.errors import Problem, ProblemError
from sidekey.observe.exceptions import describe, is_output_error
from sidekey.policy.targets import parse_prefix


def test_an_error_is_of_the_output_where_click_has_raised_it() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left") as caught:
        click.echo(b"text", file=full)
    assert is_output_error(caught.value)


def test_any_other_is_not() -> None:
    """Although it is one of the system, too."""
    with pytest.raises(FileNotFoundError) as caught:
        Path("/none/of/it").read_text()
    assert not is_output_error(caught.value)


SECRET = "hunter2-s3cret"


def fail(exc: Exception, cause: Exception | None = None) -> NoReturn:
    """Raise the exception, because of the other one, from a frame whose locals hold a secret."""
    local = SECRET
    if cause is None:
        raise exc
    try:
        fail(cause)
    except type(cause) as raised:
        raise exc from (raised if local else None)


def caught(exc: Exception, cause: Exception | None = None) -> Exception:
    """The exception, raised once so that it has a traceback."""
    with pytest.raises(type(exc)) as raised:
        fail(exc, cause)
    return raised.value


def test_a_description_names_the_types_of_the_chain_and_no_message() -> None:
    """From the raised exception to its root, by name alone."""
    exc = caught(RuntimeError(f"outer {SECRET}"), KeyError(SECRET))
    said = describe(exc)
    assert said["error"] == ["RuntimeError", "KeyError"]
    assert SECRET not in json.dumps(said)


def test_a_suppressed_context_is_not_described() -> None:
    """`raise ... from None` hides what went before, here too; without it the context is described."""
    exc = ValueError(SECRET)
    exc.__context__ = KeyError(SECRET)
    assert describe(exc)["error"] == ["ValueError", "KeyError"]
    exc.__suppress_context__ = True
    assert describe(exc)["error"] == ["ValueError"]


@pytest.mark.parametrize(
    ("exc", "name"),
    [
        (ConnectionResetError(104, SECRET), "ConnectionResetError(ECONNRESET)"),
        (OSError(SECRET), "OSError"),
        (ProblemError(Problem("target_denied", SECRET, denial="outside_prefix")), "ProblemError(target_denied)"),
        (
            ExceptionGroup(SECRET, [ValueError(SECRET), OSError(28, SECRET)]),
            "ExceptionGroup(ValueError, OSError(ENOSPC))",
        ),
    ],
)
def test_words_of_closed_sets_are_kept(exc: BaseException, name: str) -> None:
    """An errno, a code of ours and the members of a group say much and hold nothing."""
    assert describe(exc)["error"] == [name]


def test_places_of_our_own_code_and_of_the_raise_are_named() -> None:
    """A defect can be found from the log: module, line and function."""
    with pytest.raises(ValueError, match="absolute URL") as raised:
        parse_prefix("nothing")
    module, _, function = describe(raised.value)["at"][-1].partition(":")
    assert module == "sidekey.policy.targets"
    assert function.endswith(" _base")


def test_a_chain_that_loops_or_never_ends_is_cut() -> None:
    """A description is bounded whatever the exception."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert describe(first)["error"] == ["ValueError", "KeyError"]
    last: Exception = ValueError()
    for _ in range(100):
        following = ValueError()
        following.__cause__ = last
        last = following
    assert len(describe(last)["error"]) == 20


def test_a_deep_recursion_is_cut() -> None:
    """Thousands of frames become a few places."""

    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as raised:
        deeper()
    assert len(describe(raised.value)["at"]) <= 20
