"""Command groups: complete summaries, lazy commands and errors of the output."""

from __future__ import annotations

import errno
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sidekey.cli import main
from sidekey.cli.groups import Group, LazyCommand, LazyGroup
from support.sidekey_process import run_process

LONG = "A summary that is longer than the forty-five characters that click would leave of it, and that is wrapped."


def test_names_and_options_are_completed() -> None:
    """zsh and fish show the complete summaries."""
    context = click.Context(main)
    assert [completion.value for completion in main.shell_complete(context, "ex")] == ["exec", "explain", "export"]
    assert [completion.value for completion in main.shell_complete(context, "--v")] == ["--version"]
    assert main.shell_complete(context, "expl")[0].help == "Show whether a target is allowed, why, and what is signed."


def test_long_summary_is_wrapped() -> None:
    group = Group("group", commands=[click.Command("one", help=f"{LONG}\n\nAnd more.")])
    text = CliRunner().invoke(group, ["--help"]).output
    assert LONG in " ".join(text.split())
    assert "And more" not in text


def test_module_without_a_command_is_a_defect() -> None:
    group = LazyGroup("group", lazy_commands={"one": LazyCommand("terminal", "One.")})
    with pytest.raises(AttributeError):
        group.get_command(click.Context(group), "one")


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [["--help"], ["store", "new-key"], ["demo"]], ids=" ".join)
def test_output_error_is_one_line_and_status_1(arguments: list[str], environment: dict[str, str]) -> None:
    """The command prints no traceback."""
    result = run_process(*arguments, output=Path("/dev/full"), environment=environment)
    assert (result.returncode, result.stderr) == (1, "the output cannot be written: No space left on device\n")


def test_other_oserror_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other errors are defects."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, "of something else")

    group = LazyGroup("group", lazy_commands={"one": LazyCommand("one", "One.")})
    monkeypatch.setattr(group, "get_command", lambda *_: click.Command("one", callback=fail))
    with pytest.raises(OSError, match="of something else"):
        group.main(["one"], "group")
