"""`sidekey token`: create, list and revoke."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import pytest

from sidekey.cli.token import parse_lifetime
from support.sidekey_process import run_cli

CONFIG = "version: 1\nstore: {path: store.db, keys: [{id: k1, key: {env: KEY}}]}\nintegrations: {}\n"
ENVIRONMENT = {"KEY": b64encode(b"1" * 32).decode()}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sidekey.yaml"
    path.write_text(CONFIG)
    return path


def token(config: Path, *arguments: str, status: int = 0) -> str:
    """Return the output of a command, from standard error if it fails."""
    result = run_cli("token", *arguments, "--config", str(config), environment=ENVIRONMENT)
    assert result.returncode == status, result.stderr + result.stdout
    return result.stdout if status == 0 else result.stderr


def test_token_is_printed_once_and_stored_as_its_hash(config: Path) -> None:
    """The first token creates the store."""
    first = token(config, "create", "ann", "--role", "admin").strip()
    assert first.startswith("sidekey_")
    second = json.loads(token(config, "create", "bob", "--expires", "90d", "--json"))
    assert (second["name"], second["role"], second["token"][:8]) == ("bob", "viewer", "sidekey_")
    with closing(sqlite3.connect(config.parent / "store.db")) as database:
        dump = "\n".join(database.iterdump())
    assert hashlib.sha256(first.encode()).hexdigest() in dump
    assert first not in dump
    assert second["token"] not in dump


def test_tokens_are_listed_and_revoked_by_name(config: Path) -> None:
    """The audit has the user who ran the command."""
    token(config, "create", "ann", "--role", "admin")
    token(config, "create", "bob", "--role", "editor", "--expires", "1h")
    first, second = token(config, "list").splitlines()
    assert first == "ann  admin   for good                    used never"
    assert second.startswith("bob  editor  until 20")
    listed = json.loads(token(config, "list", "--json"))
    assert [item["name"] for item in listed] == ["ann", "bob"]
    assert not any("token" in item for item in listed)
    assert token(config, "revoke", "ann") == ""
    assert [item["name"] for item in json.loads(token(config, "list", "--json"))] == ["bob"]
    with closing(sqlite3.connect(config.parent / "store.db")) as database:
        rows = database.execute("SELECT who, entry FROM sidekey_audit ORDER BY seq").fetchall()
    entries = [json.loads(entry) for _, entry in rows]
    assert [action for action, *_ in entries] == ["create", "create", "revoke"]
    assert {who for who, _ in rows} == {"command line"}
    assert all(source.startswith("user ") for _, _, source, _ in entries)


def test_failed_commands_name_the_reason(config: Path) -> None:
    token(config, "create", "ann")
    assert "a token named ann exists" in token(config, "create", "ann", status=1)
    assert "NAME must be 1 to 63" in token(config, "create", "Not a name", status=1)
    assert "no token has this name" in token(config, "revoke", "bob", status=1)
    assert "--expires" in token(config, "create", "bob", "--expires", "soon", status=2)
    config.write_text("version: 1\nintegrations: {}\n")
    assert "the config has no store" in token(config, "list", status=1)
    config.write_text("version: 2\n")
    assert "version" in token(config, "list", status=1)


def test_reading_creates_no_store(config: Path) -> None:
    assert "store.path" in token(config, "list", status=1)
    assert not (config.parent / "store.db").exists()


@pytest.mark.parametrize("text", ["0s", "1", "-1d", "x"])
def test_lifetime_is_a_duration_of_at_least_a_second(text: str) -> None:
    assert parse_lifetime("90d") == 90 * 86400
    with pytest.raises(ValueError, match="must"):
        parse_lifetime(text)


def test_altered_token_is_revoked_by_its_name(config: Path) -> None:
    """An altered token grants nothing, but its name is in use."""
    token(config, "create", "ann", "--role", "viewer")
    with closing(sqlite3.connect(config.parent / "store.db")) as database, database:
        database.execute("UPDATE sidekey_rows SET body = replace(body, 'viewer', 'admin')")
    assert json.loads(token(config, "list", "--json")) == []
    assert "exists: revoke it" in token(config, "create", "ann", status=1)
    assert token(config, "revoke", "ann") == ""
    assert token(config, "create", "ann").startswith("sidekey_")
    assert "no token has this name" in token(config, "revoke", "bob", status=1)


PRESETS = """\
version: 1
store: {path: store.db, keys: [{id: k1, key: {env: KEY}}]}
integrations:
  crm: {endpoint_prefix: https://api.example.com/v1, auth: {type: headers, headers: {X-A: b}}}
presets:
  welcome: {integration: crm, url: https://api.example.com/v1/x, body: {json: {}}}
  payload: {integration: crm, url: https://api.example.com/v1/x}
"""


def test_sender_has_presets_and_limits(config: Path) -> None:
    config.write_text(PRESETS)
    token(config, "create", "ann", "--role", "admin")
    sender = ("create", "mark", "--role", "sender")
    created = json.loads(token(config, *sender, "--preset", "welcome", "--per-day", "50", "--json"))
    assert (created["role"], created["presets"], created["per_minute"], created["per_day"]) == (
        "sender",
        ["welcome"],
        60,
        50,
    )
    assert token(config, "list").splitlines()[1].startswith("mark  sender of welcome")
    assert "needs --preset" in token(config, *sender, status=2)
    assert "welcom: no preset has this ID" in token(config, *sender, "--preset", "welcom", status=2)
    assert "payload: has no body" in token(config, *sender, "--preset", "welcome", "--preset", "payload", status=2)
    assert "--per-minute" in token(config, *sender, "--preset", "welcome", "--per-minute", "601", status=2)
    assert "need --role sender" in token(config, "create", "bob", "--preset", "welcome", status=2)
