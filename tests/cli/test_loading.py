"""Which config a command is about, and what of it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.child import run_cli, run_process
from support.commands import write_config


@pytest.mark.parametrize(
    "command",
    [["test", "nope"], ["env", "nope"], ["exec", "nope", "true"], ["explain", "nope", "/x"]],
    ids=" ".join,
)
def test_an_id_that_is_not_in_the_config_is_wrong_usage(command: list[str], tmp_path: Path) -> None:
    """The message says how to see the IDs."""
    # Where it did not fail, exec would replace its process.
    start = run_process if command[0] == "exec" else run_cli
    result = start(*command, "--config", write_config(tmp_path))
    assert result.returncode == 2
    assert "sidekey list" in result.stderr


def test_the_config_is_found_by_the_environment(tmp_path: Path) -> None:
    """Without --config, $SIDEKEY_CONFIG says where it is."""
    result = run_cli("list", environment={"SIDEKEY_CONFIG": write_config(tmp_path)})
    assert result.returncode == 0
    assert result.stdout.splitlines()[1].startswith("crm ")


def test_a_config_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """The message names the file that was looked for."""
    result = run_cli("check", "--config", str(tmp_path / "missing.yaml"))
    assert result.returncode == 1
    assert f"{tmp_path}/missing.yaml:1:1: (file): {tmp_path}/missing.yaml does not exist" in result.stdout


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["list"], ["explain", "crm", "/x"], ["test", "crm"], ["healthcheck"]]
)
@pytest.mark.parametrize("variable", [None, "/no/such/config.yaml"])
def test_without_a_config_it_says_where_it_looked_and_how_to_name_one(command: list[str], variable: str | None) -> None:
    """By the option, by the variable, or at the default place."""
    looked = variable or "/etc/sidekey"
    if variable is None and Path(looked).exists():
        pytest.skip("this machine has a config at the default place")
    start = run_process if command == ["run"] else run_cli
    result = start(*command, environment={"SIDEKEY_CONFIG": variable or ""})
    assert result.returncode == 1
    said = (result.stdout + result.stderr).strip()
    # `run` writes what its log would have here: JSON lines.
    assert (json.loads(said)["place"] if command == ["run"] else said) == (
        f"{looked}:1:1: (file): {looked} does not exist: name a config file or folder with --config, or in "
        "SIDEKEY_CONFIG; the default is /etc/sidekey"
    )
