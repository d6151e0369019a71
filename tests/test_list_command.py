"""What `sidekey list` says of integrations of files and of the store."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from sidekey.list_command import as_json, lines, listed
from sidekey.runtime.snapshot import Judgement, Snapshot, Stored
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
    found = {each.id: as_json(each) for each in listed(SNAPSHOT, now=NOW, usable=False)}
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
    return [as_json(each) for each in listed(snapshot, now=NOW, usable=False)]
