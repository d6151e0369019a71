"""The behaviour that all commands share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import sidekey
from sidekey.build import build
from sidekey.cli import COMMANDS, main
from sidekey.cli.groups import Group
from sidekey.config.schema import schema
from support.commands import GOOD, INVALID, INVALID_PLACES, SECRET, TOKENS, imported_by, write_config
from support.sidekey_process import run_cli, run_process


def test_help_names_every_command() -> None:
    result = run_process("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.stdout


def commands(command: click.Command = main, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its names."""
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            subcommand = command.get_command(context, name)
            assert subcommand is not None
            yield from commands(subcommand, *names, name)


ALL_COMMANDS = dict(commands())


@pytest.mark.parametrize("names", ALL_COMMANDS, ids=" ".join)
def test_help_fits_80_columns_without_truncation(names: tuple[str, ...]) -> None:
    """A list of commands shows the complete summary of each command."""
    command = ALL_COMMANDS[names]
    with click.Context(command, info_name=" ".join(("sidekey", *names)), terminal_width=80) as context:
        lines = command.get_help(context).splitlines()
    assert max(map(len, lines)) <= 80
    assert "..." not in " ".join(lines).replace("COMMAND...", "").replace("[ARGS]...", "")
    if isinstance(command, Group):
        listed = dict(line.split(maxsplit=1) for line in lines[lines.index("Commands:") + 1 :])
        assert listed == command.summaries()
        assert all(text.endswith(".") for text in listed.values())
        helps = {name: ALL_COMMANDS[*names, name].help or "" for name in listed}
        assert listed == {name: text.partition("\n\n")[0] for name, text in helps.items()}


def test_a_narrow_terminal_wraps_help() -> None:
    text = run_process("--help", environment={"COLUMNS": "50"}).stdout
    assert " ".join(COMMANDS["explain"].summary.split()) in " ".join(text.split())


def test_version_has_name_version_and_build() -> None:
    """Scripts parse this line."""
    for argument in ("--version", "version"):
        assert run_process(argument).stdout == f"sidekey {sidekey.__version__} ({build()})\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--nonsense"],
        ["env"],
        ["env", "crm", "--by-host"],
        ["exec"],
        ["exec", "crm"],
        ["exec", "--by-host"],
        ["explain", "crm"],
        ["test"],
        ["run", "a", "b"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_on_stderr(arguments: list[str]) -> None:
    result = run_cli(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: sidekey" in result.stderr


def test_unknown_command_is_status_2_on_stderr() -> None:
    result = run_process("nonsense")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: sidekey [OPTIONS] COMMAND" in result.stderr
    assert "nonsense" in result.stderr


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_completion_import_no_heavy_module(argument: str) -> None:
    """These imports take ten times as long as the help, and a shell waits for each completion."""
    heavy = {"aiohttp", "asyncio", "cryptography", "pydantic", "yaml", "structlog", "httptools", "uvloop"}
    assert imported_by(argument) & heavy == set()
    words = {"_SIDEKEY_COMPLETE": "bash_complete", "COMP_WORDS": "sidekey ex", "COMP_CWORD": "1"}
    assert imported_by(environment=words) & heavy == set()


@pytest.mark.parametrize("text", [GOOD, INVALID], ids=["good", "invalid"])
@pytest.mark.parametrize(
    "command",
    [["check"], ["check", "--json"], ["list", "--json"], ["env", "crm"], ["explain", "crm", "/x"], ["test", "crm"]],
    ids=" ".join,
)
def test_no_command_prints_a_secret(command: list[str], text: str, tmp_path: Path) -> None:
    """Some of these secrets are in the wrong place."""
    result = run_cli(*command, "--config", write_config(tmp_path, text))
    assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "command",
    [["check"], ["check", "--json"], ["list", "--json"], ["explain", "shop", "/x"], ["explain", "campaigns", "/x"]],
    ids=" ".join,
)
def test_no_command_prints_an_oauth2_secret(command: list[str], tmp_path: Path) -> None:
    """These commands request no token."""
    (tmp_path / "shop-secret").write_text(SECRET)
    result = run_cli(*command, "--config", write_config(tmp_path, TOKENS))
    assert (result.returncode, result.stderr) == (0, "")
    assert SECRET not in result.stdout


@pytest.mark.parametrize("command", [["list"], ["env", "crm"], ["explain", "crm", "/x"], ["test", "crm"]], ids=" ".join)
def test_every_command_lists_all_errors_of_a_config(command: list[str], tmp_path: Path) -> None:
    result = run_cli(*command, "--config", write_config(tmp_path, INVALID))
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) >= len(INVALID_PLACES)


def test_schema_prints_the_schema_of_the_config() -> None:
    result = run_cli("schema")
    assert result.returncode == 0
    assert json.loads(result.stdout) == schema()


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["help", "chek"], "No such command 'chek'. Did you mean 'check'?"),
        (["token", "creat"], "No such command 'creat'. Did you mean 'create'?"),
        (["check", "--confg", "x"], "'--config'"),
    ],
    ids=" ".join,
)
def test_mistyped_word_suggests_the_nearest(arguments: list[str], suggestion: str) -> None:
    result = run_process(*arguments)
    assert result.returncode == 2
    assert suggestion in result.stderr


@pytest.mark.parametrize("names", [[], ["check"], ["token"], ["token", "create"]], ids=" ".join)
def test_help_command_prints_what_the_option_prints(names: list[str]) -> None:
    assert run_process("help", *names).stdout == run_process(*names, "--help").stdout


def test_help_of_a_command_without_subcommands_is_an_error() -> None:
    result = run_cli("help", "check", "me")
    assert result.returncode == 2
    assert "sidekey check has no commands" in result.stderr
