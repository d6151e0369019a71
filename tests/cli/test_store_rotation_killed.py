"""SIGKILL during `sidekey store rotate-key`: every row still opens, and the next run completes the rotation."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from base64 import b64encode
from pathlib import Path

import pytest

from support.postgres import Postgres
from support.sidekey_process import SIDEKEY, clean_environment, run_cli
from support.stores import KEYS, PostgresBackend, SqliteBackend, StoreBackend

ROWS = int(os.environ.get("SIDEKEY_ROWS", "250"))
KILLS = int(os.environ.get("SIDEKEY_KILLS", "3"))
"""Set both variables to larger values to find rare errors."""

ENVIRONMENT = {"K1": b64encode(KEYS["k1"]).decode(), "K2": b64encode(b"2" * 32).decode(), "SECRET": "canary-password"}


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StoreBackend:
    """Return an empty database for the config of `write_config`."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres")
    postgres_place = PostgresBackend(postgres, asyncio.run(postgres.schema()))
    (tmp_path / "url").write_text(postgres.url(postgres_place.schema))
    return postgres_place


def write_config(place: StoreBackend, folder: Path, *keys: str) -> Path:
    """Write a config with these keys. The first one seals."""
    location = "path: store.db" if isinstance(place, SqliteBackend) else "url: {file: url}"
    ring = ", ".join(f"{{id: {key.lower()}, key: {{env: {key}}}}}" for key in keys)
    path = folder / "sidekey.yaml"
    path.write_text(f"version: 1\nstore: {{{location}, keys: [{ring}]}}\n")
    return path


def sidekey(*arguments: str) -> str:
    """Return the output of a successful command."""
    result = run_cli(*arguments, environment=ENVIRONMENT)
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def count_old_rows(place: StoreBackend) -> int:
    """Count the rows that are sealed with the old key."""
    ((count,),) = asyncio.run(place.sql("SELECT count(*) FROM sidekey_rows WHERE key = 'k1'"))
    return int(count)


def kill_rotation(place: StoreBackend, config: Path, rows: int) -> None:
    """Start a rotation, and kill it when at most this many rows remain."""
    command = [*SIDEKEY, "store", "rotate-key", "--config", str(config)]
    with subprocess.Popen(command, env=clean_environment(ENVIRONMENT), stdout=subprocess.DEVNULL) as process:
        while count_old_rows(place) > rows and process.poll() is None:
            time.sleep(0.005)
        process.kill()


def test_next_run_completes_a_killed_rotation(place: StoreBackend, tmp_path: Path) -> None:
    config = write_config(place, tmp_path, "K1")
    files = tmp_path / "files.yaml"
    secret = "{type: basic, username: svc, password: {env: SECRET}}"
    integrations = "".join(
        f"  i{number}: {{endpoint_prefix: 'https://crm.example.com/{number}', auth: {secret}}}\n"
        for number in range(ROWS)
    )
    files.write_text(f"version: 1\nintegrations:\n{integrations}")
    sidekey("import", str(files), "--config", str(config))
    config = write_config(place, tmp_path, "K2", "K1")
    remaining = []
    for kill in range(KILLS):
        kill_rotation(place, config, ROWS - 1 - kill * ROWS // KILLS)
        remaining.append(count_old_rows(place))
        report = json.loads(sidekey("store", "verify", "--json", "--config", str(config)))
        assert (report["integrations"], report["keys"], report["findings"]) == (ROWS, ["k1", "k2"], [])
    assert remaining[0] > 0
    assert remaining == sorted(remaining, reverse=True)
    assert f"{remaining[-1]} rows re-encrypted with k2" in sidekey("store", "rotate-key", "--config", str(config))
    config = write_config(place, tmp_path, "K2")
    report = json.loads(sidekey("store", "verify", "--json", "--config", str(config)))
    assert (report["integrations"], report["keys"], report["findings"]) == (ROWS, ["k2"], [])
    tables = asyncio.run(place.all([f"SELECT * FROM sidekey_{table}" for table in ("keys", "rows", "leases")]))
    assert "'k1'" not in str(tables)
    assert ":k1:" not in str(tables)
