"""The config and the store that commands open."""

from __future__ import annotations

import getpass
import json
from pathlib import Path

import pytest

from sidekey.cli.config import audit_source, run_with_store
from sidekey.store.errors import StoreUnavailable
from sidekey.store.store import Store
from support.commands import write_config
from support.sidekey_process import run_cli, run_process
from support.stores import SqliteBackend


@pytest.mark.parametrize(
    "command",
    [["test", "nope"], ["env", "nope"], ["exec", "nope", "true"], ["explain", "nope", "/x"]],
    ids=" ".join,
)
def test_unknown_id_is_a_usage_error(command: list[str], tmp_path: Path) -> None:
    """The message says how to list the IDs."""
    # `exec` would replace the process of the tests if it did not fail.
    start = run_process if command[0] == "exec" else run_cli
    result = start(*command, "--config", write_config(tmp_path))
    assert result.returncode == 2
    assert "sidekey list" in result.stderr


def test_sidekey_config_names_the_config(tmp_path: Path) -> None:
    result = run_cli("list", environment={"SIDEKEY_CONFIG": write_config(tmp_path)})
    assert result.returncode == 0
    assert result.stdout.splitlines()[1].startswith("crm ")


def test_missing_config_is_an_error(tmp_path: Path) -> None:
    result = run_cli("check", "--config", str(tmp_path / "missing.yaml"))
    assert result.returncode == 1
    assert f"{tmp_path}/missing.yaml:1:1: (file): {tmp_path}/missing.yaml does not exist" in result.stdout


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["list"], ["explain", "crm", "/x"], ["test", "crm"], ["healthcheck"]]
)
@pytest.mark.parametrize("variable", [None, "/no/such/config.yaml"])
def test_missing_default_config_is_an_error_that_names_the_option(command: list[str], variable: str | None) -> None:
    path = variable or "/etc/sidekey"
    if variable is None and Path(path).exists():
        pytest.skip("this machine has a config at the default place")
    start = run_process if command == ["run"] else run_cli
    result = start(*command, environment={"SIDEKEY_CONFIG": variable or ""})
    assert result.returncode == 1
    output = (result.stdout + result.stderr).strip()
    # `run` writes its errors as JSON lines, like its log.
    assert (json.loads(output)["place"] if command == ["run"] else output) == (
        f"{path}:1:1: (file): {path} does not exist: name a config file or folder with --config, or in "
        "SIDEKEY_CONFIG; the default is /etc/sidekey"
    )


async def revision(store: Store) -> int:
    return store.state.revision


def test_store_is_closed_after_the_work(tmp_path: Path) -> None:
    """The last connection removes the other files of SQLite. Only `create` allows a new store."""
    rules = SqliteBackend(tmp_path).rules()
    with pytest.raises(StoreUnavailable):
        run_with_store(rules, revision, create=False)
    assert run_with_store(rules, revision, create=True) == run_with_store(rules, revision, create=False) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_store_is_closed_after_an_error(tmp_path: Path) -> None:
    async def fail(store: Store) -> None:
        del store
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_with_store(SqliteBackend(tmp_path).rules(), fail, create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


def test_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, the user may be missing in /etc/passwd."""
    assert audit_source() == f"user {getpass.getuser()}"

    def nobody() -> str:
        raise KeyError("uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert audit_source() == "user unknown"
