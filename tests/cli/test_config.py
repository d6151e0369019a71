"""Which config a command is about, and what of it is named."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from sidekey.cli.config import in_store, user
from sidekey.store.errors import StoreUnavailable
from sidekey.store.store import Store
from support.child import run_cli, run_process
from support.commands import write_config
from support.stores import SqlitePlace


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


async def revision(store: Store) -> int:
    return store.state.revision


def test_it_is_closed_at_the_end(tmp_path: Path) -> None:
    """SQLite's files beside the database go with the last connection. Only whoever may makes one."""
    rules = SqlitePlace(tmp_path).rules()
    with pytest.raises(StoreUnavailable):
        in_store(rules, revision, create=False)
    assert in_store(rules, revision, create=True) == in_store(rules, revision, create=False) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_what_fails_in_it_closes_it_as_well(tmp_path: Path) -> None:
    async def fail(store: Store) -> None:
        del store
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_store(SqlitePlace(tmp_path).rules(), fail, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user stands in no file."""
    assert user() == f"user {getpass.getuser()}"

    def nobody() -> str:
        raise KeyError("uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert user() == "user unknown"
