"""Descriptions of exceptions without their messages, and output errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import click
import pytest

from sidekey.errors import Problem, ProblemError
from sidekey.observe.exceptions import describe, is_output_error
from sidekey.policy.targets import parse_prefix


def test_error_raised_by_click_echo_is_an_output_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left") as caught:
        click.echo(b"text", file=full)
    assert is_output_error(caught.value)


def test_other_os_errors_are_not_output_errors() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/none/of/it").read_text()
    assert not is_output_error(caught.value)


SECRET = "hunter2-s3cret"


def fail(exc: Exception, cause: Exception | None = None) -> NoReturn:
    """Raise `exc` from `cause` in a frame with a secret."""
    local = SECRET
    if cause is None:
        raise exc
    try:
        fail(cause)
    except type(cause) as raised:
        raise exc from (raised if local else None)


def caught(exc: Exception, cause: Exception | None = None) -> Exception:
    """Raise an exception and catch it, so that it has a traceback."""
    with pytest.raises(type(exc)) as raised:
        fail(exc, cause)
    return raised.value


def test_description_has_the_types_of_the_chain_without_messages() -> None:
    exc = caught(RuntimeError(f"outer {SECRET}"), KeyError(SECRET))
    description = describe(exc)
    assert description["error"] == ["RuntimeError", "KeyError"]
    assert SECRET not in json.dumps(description)


def test_suppressed_context_is_not_described() -> None:
    """`raise ... from None` suppresses the context."""
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
def test_description_has_errno_code_and_group_members(exc: BaseException, name: str) -> None:
    assert describe(exc)["error"] == [name]


def test_description_has_the_location_of_the_raise() -> None:
    with pytest.raises(ValueError, match="absolute URL") as raised:
        parse_prefix("nothing")
    module, _, function = describe(raised.value)["at"][-1].partition(":")
    assert module == "sidekey.policy.targets"
    assert function.endswith(" _base")


def test_endless_chain_is_cut() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert describe(first)["error"] == ["ValueError", "KeyError"]
    last: Exception = ValueError()
    for _ in range(100):
        following = ValueError()
        following.__cause__ = last
        last = following
    assert len(describe(last)["error"]) == 20


def test_deep_recursion_is_cut() -> None:
    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError) as raised:
        recurse()
    assert len(describe(raised.value)["at"]) <= 20
