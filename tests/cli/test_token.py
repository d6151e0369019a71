"""`sidekey token`, as it is typed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from base64 import b64encode
from contextlib import closing
from pathlib import Path

import pytest

from sidekey.cli.token import lifetime
from support.child import run_cli

CONFIG = "version: 1\nstore: {path: store.db, keys: [{id: k1, key: {env: KEY}}]}\nintegrations: {}\n"
ENVIRONMENT = {"KEY": b64encode(b"1" * 32).decode()}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "sidekey.yaml"
    path.write_text(CONFIG)
    return path


def token(config: Path, *arguments: str, status: int = 0) -> str:
    """What a command prints; on standard error where it fails."""
    done = run_cli("token", *arguments, "--config", str(config), environment=ENVIRONMENT)
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout if status == 0 else done.stderr


def test_a_token_is_printed_once_and_stored_as_its_hash(config: Path) -> None:
    """The first one makes the store."""
    made = token(config, "create", "ann", "--role", "admin").strip()
    assert made.startswith("sidekey_")
    said = json.loads(token(config, "create", "bob", "--expires", "90d", "--json"))
    assert (said["name"], said["role"], said["token"][:8]) == ("bob", "viewer", "sidekey_")
    with closing(sqlite3.connect(config.parent / "store.db")) as database:
        dump = "\n".join(database.iterdump())
    assert hashlib.sha256(made.encode()).hexdigest() in dump
    assert made not in dump
    assert said["token"] not in dump


def test_tokens_are_listed_and_revoked_by_name(config: Path) -> None:
    """For people in columns; the audit says who did it, as far as the system knows."""
    token(config, "create", "ann", "--role", "admin")
    token(config, "create", "bob", "--role", "editor", "--expires", "1h")
    first, second = token(config, "list").splitlines()
    assert first == "ann  admin   for good                    used never"
    assert second.startswith("bob  editor  until 20")
    listed = json.loads(token(config, "list", "--json"))
    assert [each["name"] for each in listed] == ["ann", "bob"]
    assert not any("token" in each for each in listed)
    assert token(config, "revoke", "ann") == ""
    assert [each["name"] for each in json.loads(token(config, "list", "--json"))] == ["bob"]
    with closing(sqlite3.connect(config.parent / "store.db")) as database:
        found = database.execute("SELECT who, entry FROM sidekey_audit ORDER BY seq").fetchall()
    entries = [json.loads(entry) for _, entry in found]
    assert [action for action, *_ in entries] == ["create", "create", "revoke"]
    assert {who for who, _ in found} == {"command line"}
    assert all(source.startswith("user ") for _, _, source, _ in entries)


def test_what_cannot_be_done_says_why(config: Path) -> None:
    """Names that are taken, are none, or are not there; and a config without a store."""
    token(config, "create", "ann")
    assert "a token named ann exists" in token(config, "create", "ann", status=1)
    assert "NAME must be 1 to 63" in token(config, "create", "Not a name", status=1)
    assert "no token has this name" in token(config, "revoke", "bob", status=1)
    assert "--expires" in token(config, "create", "bob", "--expires", "soon", status=2)
    config.write_text("version: 1\nintegrations: {}\n")
    assert "the config has no store" in token(config, "list", status=1)
    config.write_text("version: 2\n")
    assert "version" in token(config, "list", status=1)


def test_reading_makes_no_store(config: Path) -> None:
    """Nothing can be in one that is not there."""
    assert "store.path" in token(config, "list", status=1)
    assert not (config.parent / "store.db").exists()


@pytest.mark.parametrize("text", ["0s", "1", "-1d", "x"])
def test_a_lifetime_is_a_duration(text: str) -> None:
    """Of at least a second."""
    assert lifetime("90d") == 90 * 86400
    with pytest.raises(ValueError, match="must"):
        lifetime(text)


def test_a_token_that_was_altered_is_revoked_by_its_name(config: Path) -> None:
    """It counts for nothing, and its name would be lost."""
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


def test_a_sender_has_presets_and_limits(config: Path) -> None:
    config.write_text(PRESETS)
    token(config, "create", "ann", "--role", "admin")
    sender = ("create", "mark", "--role", "sender")
    made = json.loads(token(config, *sender, "--preset", "welcome", "--per-day", "50", "--json"))
    assert (made["role"], made["presets"], made["per_minute"], made["per_day"]) == ("sender", ["welcome"], 60, 50)
    assert token(config, "list").splitlines()[1].startswith("mark  sender of welcome")
    assert "needs --preset" in token(config, *sender, status=2)
    assert "welcom: no preset has this ID" in token(config, *sender, "--preset", "welcom", status=2)
    assert "payload: has no body" in token(config, *sender, "--preset", "welcome", "--preset", "payload", status=2)
    assert "--per-minute" in token(config, *sender, "--preset", "welcome", "--per-minute", "601", status=2)
    assert "need --role sender" in token(config, "create", "bob", "--preset", "welcome", status=2)
