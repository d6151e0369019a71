"""Groups of commands, of which some are imported at their first use."""

from __future__ import annotations

import errno
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sidekey.cli import main
from sidekey.cli.groups import Group, LazyCommand, LazyGroup
from support.child import run_process

LONG = "A summary that is longer than the forty-five characters that click would leave of it, and that is wrapped."


def test_names_and_options_are_completed() -> None:
    """With the whole summary, which zsh and fish show."""
    context = click.Context(main)
    assert [each.value for each in main.shell_complete(context, "ex")] == ["exec", "explain", "export"]
    assert [each.value for each in main.shell_complete(context, "--v")] == ["--version"]
    assert main.shell_complete(context, "expl")[0].help == "Show whether a target is allowed, why, and what is signed."


def test_a_long_summary_is_wrapped() -> None:
    group = Group("group", commands=[click.Command("one", help=f"{LONG}\n\nAnd more.")])
    text = CliRunner().invoke(group, ["--help"]).output
    assert LONG in " ".join(text.split())
    assert "And more" not in text


def test_a_command_that_is_absent_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["nonsense"])
    assert (result.exit_code, "nonsense" in result.output) == (2, True)


def test_a_module_without_a_command_is_a_defect() -> None:
    group = LazyGroup("group", deferred={"one": LazyCommand("terminal", "One.")})
    with pytest.raises(AttributeError):
        group.get_command(click.Context(group), "one")


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [["--help"], ["store", "new-key"], ["demo"]], ids=" ".join)
def test_output_that_cannot_be_written_is_told_in_one_line(arguments: list[str], environment: dict[str, str]) -> None:
    """By exit status 1, and not by a traceback; also while the demo runs."""
    found = run_process(*arguments, output=Path("/dev/full"), environment=environment)
    assert (found.returncode, found.stderr) == (1, "the output cannot be written: No space left on device\n")


def test_an_error_that_is_not_of_the_output_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a defect."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, "of something else")

    group = LazyGroup("group", deferred={"one": LazyCommand("one", "One.")})
    monkeypatch.setattr(group, "get_command", lambda *_: click.Command("one", callback=fail))
    with pytest.raises(OSError, match="of something else"):
        group.main(["one"], "group")
