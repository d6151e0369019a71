"""Groups of commands, of which some are imported at their first use."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from sidekey.cli import main
from sidekey.cli.groups import Deferred, DeferredGroup, Group

LONG = "A summary that is longer than the forty-five characters that click would leave of it, and that is wrapped."


def test_nothing_is_imported_to_list_or_to_complete_commands() -> None:
    """The modules of commands are there once a command is used."""
    code = (
        "import sys, click; from sidekey.cli import main; context = click.Context(main); main.get_help(context);"
        "main.shell_complete(context, ''); print(*(name for name in sys.modules if name.startswith('sidekey.')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) == {"sidekey.cli", "sidekey.cli.groups"}


def test_names_and_options_are_completed() -> None:
    """With the whole summary, which zsh and fish show."""
    context = click.Context(main)
    assert [each.value for each in main.shell_complete(context, "ex")] == ["exec", "explain", "export"]
    assert [each.value for each in main.shell_complete(context, "--v")] == ["--version"]
    assert main.shell_complete(context, "expl")[0].help == "Say whether a target is allowed, why, and what is signed."


def test_a_long_summary_is_wrapped() -> None:
    group = Group("group", commands=[click.Command("one", help=f"{LONG}\n\nAnd more.")])
    text = CliRunner().invoke(group, ["--help"]).output
    assert LONG in " ".join(text.split())
    assert "And more" not in text


def test_a_command_that_is_absent_is_wrong_usage() -> None:
    result = CliRunner().invoke(main, ["nonsense"])
    assert (result.exit_code, "nonsense" in result.output) == (2, True)


def test_a_module_without_a_command_is_a_defect() -> None:
    group = DeferredGroup("group", deferred={"one": Deferred("terminal", "One.")})
    with pytest.raises(AttributeError):
        group.get_command(click.Context(group), "one")
