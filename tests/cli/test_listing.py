"""What `sidekey list` says of integrations of files and of the store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sidekey.cli.listing import described, lines, listed
from sidekey.runtime.snapshot import Judgement, Snapshot, Stored
from support.child import run_cli
from support.commands import SECRET, TOKENS, write_config
from support.plane import integration
from support.standings import certified, unread

NOW = 1_800_000_000.0

FILE = replace(integration("file", "https://file.test/x"), description="of a file", tags=("a", "b"))
SAVED = replace(integration("saved", "https://saved.test"), stored=True)
SEALED = replace(SAVED, id="sealed", base=None)
JUDGEMENTS = {
    "saved": Judgement("ok"),
    "sealed": Judgement("sealed", "auth.password: the stored secret cannot be opened"),
    "file": Judgement("hidden", "a file has an integration of this ID, which is served instead"),
    "gone": Judgement("hidden", "a file had its ID: release it to serve it"),
}
SNAPSHOT = Snapshot(
    MappingProxyType({"file": FILE, "saved": SAVED, "sealed": SEALED}), stored=Stored(judgements=JUDGEMENTS)
)


def test_each_id_is_there_once_with_what_is_wrong_with_it() -> None:
    """A file's stands for the stored one that it hides; one that nothing stands for is listed by itself."""
    assert lines(listed(SNAPSHOT, now=NOW, usable=False)) == [
        "file    basic  https://file.test/x  [a, b] of a file",
        "gone    -      -                    hidden: a file had its ID: release it to serve it",
        "saved   basic  https://saved.test",
        "sealed  basic  -                    sealed: auth.password: the stored secret cannot be opened",
    ]


def test_the_same_is_there_for_machines() -> None:
    found = {each.id: described(each) for each in listed(SNAPSHOT, now=NOW, usable=False)}
    assert {name: (each["source"], each["status"]) for name, each in found.items()} == {
        "file": ("file", "ok"),
        "gone": ("store", "hidden"),
        "saved": ("store", "ok"),
        "sealed": ("store", "sealed"),
    }
    assert found["gone"] == {
        "id": "gone",
        "kind": None,
        "source": "store",
        "status": "hidden",
        "reason": JUDGEMENTS["gone"].reason,
        "base": None,
        "description": "",
        "tags": [],
        "usable": False,
        "expires_at": None,
    }


def test_what_is_not_served_is_not_usable() -> None:
    assert "gone" not in [each.id for each in listed(SNAPSHOT, now=NOW, usable=True)]


def test_without_a_store_there_are_those_of_files() -> None:
    assert [each.id for each in listed(replace(SNAPSHOT, stored=None), now=NOW, usable=False)] == [
        "file",
        "saved",
        "sealed",
    ]
    assert lines([]) == []


def test_texts_of_others_command_no_terminal() -> None:
    """A description, a tag or a reason may be anybody's."""
    hostile = replace(FILE, description="\x1b[2Jgone \u202eevil\u2066\n  crm", tags=("\x9b1m",))
    (line,) = lines(listed(Snapshot(MappingProxyType({"file": hostile})), now=NOW, usable=False))
    assert line.endswith(r"[\x9b1m] \x1b[2Jgone \u202eevil\u2066\n  crm")


def test_certificates_and_secrets_are_told_as_the_api_tells_them() -> None:
    """Nothing is known here of requests."""
    integrations = {
        "ended": certified(FILE, NOW - 1),
        "ending": certified(FILE, NOW + 86_400),
        "unread": unread(SAVED, "auth.password: /run/crm does not exist"),
    }
    stored = Stored(judgements={"unread": Judgement("ok")})
    snapshot = Snapshot({name: replace(each, id=name) for name, each in integrations.items()}, stored=stored)
    assert [(each["id"], each["status"], each["usable"], each["expires_at"]) for each in _described(snapshot)] == [
        ("ended", "expired", False, "2027-01-15T07:59:59Z"),
        ("ending", "expiring", True, "2027-01-16T08:00:00Z"),
        ("unread", "secret_missing", False, None),
    ]
    assert [each.id for each in listed(snapshot, now=NOW, usable=True)] == ["ending"]
    assert "secret_missing: auth.password: /run/crm does not exist" in lines(listed(snapshot, now=NOW, usable=False))[2]


def _described(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [described(each) for each in listed(snapshot, now=NOW, usable=False)]


def test_list_shows_each_integration_in_one_line(tmp_path: Path) -> None:
    """ID, kind, base URL, tags and description, in columns."""
    result = run_cli("list", "--config", write_config(tmp_path))
    assert result.stdout.splitlines() == [
        "crm  basic    https://crm.example.com/api  [crm, eu] CRM send API",
        "sms  headers  https://sms.example.com",
    ]


def test_list_usable_leaves_out_what_has_no_secret(tmp_path: Path) -> None:
    """An integration whose secret cannot be read would answer credential_unavailable."""
    path = write_config(tmp_path, sms_key=None)
    assert [line.split()[0] for line in run_cli("list", "--config", path).stdout.splitlines()] == ["crm", "sms"]
    usable = run_cli("list", "--usable", "--json", "--config", path)
    assert json.loads(usable.stdout) == [
        {
            "id": "crm",
            "kind": "basic",
            "source": "file",
            "status": "ok",
            "reason": None,
            "base": "https://crm.example.com/api",
            "description": "CRM send API",
            "tags": ["crm", "eu"],
            "usable": True,
            "expires_at": None,
        }
    ]


def test_list_shows_kinds_that_call_and_where_their_reverse_door_leads(tmp_path: Path) -> None:
    """An integration is usable as soon as its secrets can be read: listing calls nobody for a token."""
    path = write_config(tmp_path, TOKENS)
    campaigns = "campaigns  responsys  https://login2.responsys.net/rest/api/v1.3  Triggered messages"
    assert run_cli("list", "--usable", "--config", path).stdout.splitlines() == [campaigns]
    (tmp_path / "shop-secret").write_text(SECRET)
    usable = json.loads(run_cli("list", "--usable", "--json", "--config", path).stdout)
    assert [(each["id"], each["kind"], each["base"]) for each in usable] == [
        ("campaigns", "responsys", "https://login2.responsys.net/rest/api/v1.3"),
        ("shop", "oauth2", "https://api.europe-west1.gcp.commercetools.com"),
    ]
