"""`sidekey store`: new-key, rotate-key and verify."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import stat
from base64 import b64decode, b64encode
from contextlib import closing
from pathlib import Path

import pytest

from sidekey.cli.store import StoreCommandError, purpose_of, write_key
from sidekey.config.stored.rows import build_integration_row
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import assess
from sidekey.store.errors import StoreUnavailable
from sidekey.store.open import open_store
from sidekey.store.records import IntegrationRow, new_row_id
from sidekey.store.state import Put
from sidekey.store.store import Store
from support.full_disk import limited
from support.sidekey_process import run_cli
from support.stores import ENTRY, KEYS, SqliteBackend

CONFIG = """\
version: 1
store: {path: state/store.db, keys: [%s]}
integrations:
  a: {endpoint_prefix: 'https://a.test/v1', auth: {type: headers, headers: {X-Key: x}}}
"""
DOCUMENT = {
    "endpoint_prefix": "https://crm.example.com/v1",
    "auth": {"type": "basic", "username": {"value": "svc"}, "password": {"value": "canary-password"}},
}
ENVIRONMENT = {"OLD_KEY": b64encode(KEYS["k1"]).decode(), "NEW_KEY": b64encode(b"2" * 32).decode()}
OLD, NEW = "{id: k1, key: {env: OLD_KEY}}", "{id: k2, key: {env: NEW_KEY}}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return write_config(tmp_path / "sidekey.yaml", OLD)


def write_config(path: Path, *keys: str) -> Path:
    path.write_text(CONFIG % ", ".join(keys))
    return path


def place(config: Path) -> SqliteBackend:
    return SqliteBackend(config.parent / "state")


def store(config: Path, *arguments: str, status: int = 0) -> str:
    """Return the output of a command, from standard error if the command itself fails."""
    result = run_cli("store", *arguments, "--config", str(config), environment=ENVIRONMENT)
    assert result.returncode == status, result.stderr + result.stdout
    assert "canary" not in result.stdout + result.stderr
    return result.stdout or result.stderr


def create_store(config: Path) -> None:
    """Create the store with an integration as the API saves it."""

    async def main() -> None:
        opened = await open_store(place(config).rules())
        try:
            await opened.commit([Put(build_row(opened), None)], ENTRY)
        finally:
            await opened.close()

    asyncio.run(main())


def build_row(opened: Store) -> IntegrationRow:
    draft = assess(DOCUMENT, None, in_flight=100, now=0).draft
    assert draft is not None
    row = build_integration_row(SealingKeys(opened.id, opened.ring), "crm", draft, None, None, by="ops", now=1).row
    assert row.secrets
    return row


def sql(config: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(place(config).path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def test_new_key_is_32_random_bytes(tmp_path: Path) -> None:
    keys = {run_cli("store", "new-key").stdout for _ in range(2)}
    assert len(keys) == 2
    assert {len(b64decode(key.rstrip("\n"), validate=True)) for key in keys} == {32}


def test_new_key_is_written_to_a_new_private_file(tmp_path: Path) -> None:
    """The command never replaces a file, which may be a key in use."""
    path = tmp_path / "k1"
    result = run_cli("store", "new-key", "--out", str(path))
    assert (result.returncode, result.stdout) == (0, "")
    key = path.read_text()
    assert len(b64decode(key)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = run_cli("store", "new-key", "--out", str(path))
    assert (second.returncode, path.read_text()) == (1, key)
    assert "exists and may be a key in use: name another file" in second.stderr
    assert "cannot be written: No such file" in run_cli("store", "new-key", "--out", str(tmp_path / "no" / "k")).stderr


def test_full_disk_leaves_no_empty_key_file(tmp_path: Path) -> None:
    """An empty file would block the next attempt."""
    path = tmp_path / "k1"
    with limited(10), pytest.raises(StoreCommandError, match="k1 cannot be written: File too large"):
        write_key(path)
    assert not path.exists()
    write_key(path)
    assert len(b64decode(path.read_text())) == 32


def test_key_is_replaced_in_four_steps(config: Path) -> None:
    """The operator adds the new key, moves it to the first position, rotates, and removes the old one."""
    create_store(config)
    store(write_config(config, OLD, NEW), "verify")
    assert store(write_config(config, NEW, OLD), "rotate-key") == "1 rows re-encrypted with k2\n"
    assert store(config, "rotate-key") == "0 rows re-encrypted with k2\n"
    report = json.loads(store(write_config(config, NEW), "verify", "--json"))
    assert report == {
        "ok": True,
        "revision": report["revision"],
        "integrations": 1,
        "presets": 0,
        "callers": 0,
        "tokens": 0,
        "keys": ["k2"],
        "findings": [],
    }
    tables = [sql(config, f"SELECT * FROM sidekey_{name}") for name in ("keys", "rows")]
    assert "'k1'" not in str(tables)
    assert ":k1:" not in str(tables)
    assert "store.keys: key k2 is missing" in store(write_config(config, OLD), "verify", status=1)


def test_edited_document_is_not_re_encrypted(config: Path) -> None:
    """The row has a valid MAC."""
    create_store(config)

    async def edit() -> None:
        opened = await open_store(place(config).rules())
        row = opened.state.integrations["crm"]
        edited = IntegrationRow(
            row_id=row.row_id,
            id=row.id,
            document=row.document.replace("crm.example.com", "evil.example.com"),
            secrets=row.secrets,
        )
        await opened.commit([Put(edited, 1)], ENTRY)
        await opened.close()

    asyncio.run(edit())
    output = store(config, "verify", status=1)
    reason = "does not open: it was entered for another place or destination"
    assert re.search(f"integration crm: secret s_[0-9a-f]{{16}} {reason}", output)
    assert reason in store(write_config(config, NEW, OLD), "rotate-key", status=1)
    assert ":k1:" in str(sql(config, "SELECT body FROM sidekey_rows"))


def test_verify_finds_an_altered_row(config: Path) -> None:
    create_store(config)
    sql(config, "UPDATE sidekey_rows SET body = '{}'")
    report = json.loads(store(config, "verify", "--json", status=1))
    assert report["findings"] == ["integration crm: it was altered: write it again, or delete it"]


def test_no_command_creates_a_store(config: Path) -> None:
    for command in ("verify", "rotate-key"):
        assert "store.db cannot be opened: No such file or directory" in store(config, command, status=1)
    assert list(place(config).path.parent.iterdir()) == []


def test_config_without_a_store_is_an_error(config: Path) -> None:
    config.write_text("version: 1\n")
    for command in ("verify", "rotate-key"):
        assert "store: the config has no store: add it" in store(config, command, status=1)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("x", "its document "),
        ('{"integration":{"auth":{"type":"smoke"}}}', "its document is not valid any more: save it again"),
    ],
)
def test_invalid_document_has_no_purpose(document: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        purpose_of(IntegrationRow(row_id=new_row_id(), id="crm", document=document))


async def test_unreachable_store_is_reported_at_once(config: Path) -> None:
    """A start of Sidekey would wait for half a minute."""
    with pytest.raises(StoreUnavailable):
        await open_store(place(config).rules(), create=False)
