"""The command line as a process: what is true of every command."""

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
from support.child import run_cli, run_process
from support.commands import GOOD, INVALID, INVALID_PLACES, SECRET, TOKENS, imported_by, write_config


def test_help_names_every_command() -> None:
    """Whoever starts finds what there is."""
    result = run_process("--help")
    assert result.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command} " in result.stdout


def commands(command: click.Command = main, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command there is, after the words that call it."""
    yield names, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, *names, name)


EVERY = dict(commands())


@pytest.mark.parametrize("names", EVERY, ids=" ".join)
def test_no_help_is_cut_in_80_columns(names: tuple[str, ...]) -> None:
    """Each list has a line for each command, with a whole sentence; the command's own help begins with the same one."""
    command = EVERY[names]
    with click.Context(command, info_name=" ".join(("sidekey", *names)), terminal_width=80) as context:
        lines = command.get_help(context).splitlines()
    assert max(map(len, lines)) <= 80
    assert "..." not in " ".join(lines).replace("COMMAND...", "").replace("[ARGS]...", "")
    if isinstance(command, Group):
        listed = dict(line.split(maxsplit=1) for line in lines[lines.index("Commands:") + 1 :])
        assert listed == command.summaries()
        assert all(text.endswith(".") for text in listed.values())
        helps = {name: EVERY[*names, name].help or "" for name in listed}
        assert listed == {name: text.partition("\n\n")[0] for name, text in helps.items()}


def test_a_narrow_terminal_wraps_help() -> None:
    """The summary goes on in the next line."""
    text = run_process("--help", environment={"COLUMNS": "50"}).stdout
    assert " ".join(COMMANDS["explain"].summary.split()) in " ".join(text.split())


def test_the_version_is_the_packages() -> None:
    """The name, the version and the build, for scripts to split."""
    assert run_process("--version").stdout == f"sidekey {sidekey.__version__} ({build()})\n"


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
    """An error of the command line, not of the config."""
    result = run_cli(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: sidekey" in result.stderr


def test_unknown_command_is_status_2_on_stderr() -> None:
    """The message names it."""
    result = run_process("nonsense")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Usage: sidekey [OPTIONS] COMMAND" in result.stderr
    assert "nonsense" in result.stderr


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_completion_load_none_of_the_heavy_parts(argument: str) -> None:
    """aiohttp, pydantic and YAML cost ten times what help itself costs, and a shell waits for each completion."""
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
    """Not even one that stands in the config where a reference belongs."""
    result = run_cli(*command, "--config", write_config(tmp_path, text))
    assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "command",
    [["check"], ["check", "--json"], ["list", "--json"], ["explain", "shop", "/x"], ["explain", "campaigns", "/x"]],
    ids=" ".join,
)
def test_no_command_prints_a_secret_of_a_kind_that_calls(command: list[str], tmp_path: Path) -> None:
    """And none of these calls anyone for a token."""
    (tmp_path / "shop-secret").write_text(SECRET)
    result = run_cli(*command, "--config", write_config(tmp_path, TOKENS))
    assert (result.returncode, result.stderr) == (0, "")
    assert SECRET not in result.stdout


@pytest.mark.parametrize("command", [["list"], ["env", "crm"], ["explain", "crm", "/x"], ["test", "crm"]], ids=" ".join)
def test_every_command_names_all_errors_of_a_config(command: list[str], tmp_path: Path) -> None:
    """On stderr, where they do not mix with what the command answers."""
    result = run_cli(*command, "--config", write_config(tmp_path, INVALID))
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) >= len(INVALID_PLACES)


def test_schema_prints_the_schema_of_the_config() -> None:
    """JSON, and nothing else."""
    result = run_cli("schema")
    assert result.returncode == 0
    assert json.loads(result.stdout) == schema()
