"""A running Sidekey with a store: what it says where the store cannot be opened, and goes on with where it ends."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path

import pytest

from support.ask import get, within
from support.child import Child, run_cli
from support.postgres import Postgres
from support.stores import KEYS, PostgresPlace

HEAD = 'version: 1\nlisten: {{proxy: "127.0.0.1:{proxy}", admin: "127.0.0.1:{admin}"}}\n'
KEY = "keys: [{id: k1, key: {env: STORE_KEY}}]"
ENVIRONMENT = {"STORE_KEY": b64encode(KEYS["k1"]).decode()}


def series(child: Child) -> dict[str, str]:
    """The samples of the store."""
    lines = get(child.admin_port, "/metrics").body.splitlines()
    return dict(line.removeprefix("sidekey_store_").split() for line in lines if line.startswith("sidekey_store_"))


def test_a_store_is_made_at_the_first_start(tmp_path: Path) -> None:
    """And found by the next."""
    for _ in range(2):
        with Child(f"store: {{path: store.db, {KEY}}}\n", tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
            found = series(child)
            assert (found["up"], found["revision"], found["rolled_back"]) == ("1", "0", "0")
            assert child.stop() == 0


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b64encode(b"x" * 32).decode(), "store.keys: key k1 is not the key that the store is written with"),
        (b64encode(b"x" * 31).decode(), "key k1: environment variable STORE_KEY must be 32 bytes in base64"),
        ("", "key k1: environment variable STORE_KEY must not be empty"),
    ],
    ids=["another", "short", "none"],
)
def test_without_its_key_it_does_not_start(tmp_path: Path, key: str, reason: str) -> None:
    with Child(f"store: {{path: store.db, {KEY}}}\n", tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
        assert child.stop() == 0
    done = run_cli("run", "--config", str(child.config), environment={"STORE_KEY": key})
    assert done.returncode == 1
    assert reason in done.stderr


def test_what_is_loaded_goes_on_while_the_store_is_away(postgres: Postgres, tmp_path: Path) -> None:
    """Readiness stays, the metric and the log say so, and what was there is used again when it is back."""
    place = PostgresPlace(postgres, asyncio.run(postgres.schema()))
    (tmp_path / "url").write_text(postgres.url(place.schema))
    config = f"store: {{url: {{file: url}}, {KEY}}}\n"
    with Child(config, tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
        assert series(child)["up"] == "1"
        postgres.stop()
        try:
            child.wait_for_line(lambda line: "the store cannot be reached: what is loaded stays in use" in line)
            assert series(child)["up"] == "0"
            assert get(child.admin_port, "/readyz").status == 200
        finally:
            postgres.start()
        child.wait_for_line(lambda line: '"the store is in use"' in line)
        within(lambda: series(child)["up"] == "1")
        assert child.stop() == 0
    assert str(postgres.folder) not in "\n".join(child.lines)


def test_what_is_gone_is_told_at_a_start_and_to_who_runs(postgres: Postgres, tmp_path: Path) -> None:
    """An alert can be made of it; `sidekey store accept` ends it without a restart."""
    place = PostgresPlace(postgres, asyncio.run(postgres.schema()))
    (tmp_path / "url").write_text(postgres.url(place.schema))
    config = f"store: {{url: {{file: url}}, {KEY}}}\n"
    with Child(config, tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
        asyncio.run(place.sql("UPDATE sidekey_head SET digest = 'x', revision = 5"))
        child.wait_for_line(lambda line: "the store is not used" in line and "sidekey store accept" in line)
        assert series(child)["rolled_back"] == "1"
        assert child.stop() == 0
    with Child(config, tmp_path, head=HEAD, environment=ENVIRONMENT) as child:
        within(lambda: series(child)["rolled_back"] == "1")
        done = run_cli("store", "accept", "--config", str(child.config), environment=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        within(lambda: series(child)["rolled_back"] == "0")
        assert child.stop() == 0
