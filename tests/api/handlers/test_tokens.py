"""`/tokens`: tokens of operators."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from support.api import TOKENS, Api, ApiResponse, ApiSetup, rewritten
from support.http_get import wait_until

Named = Callable[[str], str]


def test_token_is_shown_once_and_works_at_once(running: ApiSetup, api: Api, named: Named) -> None:
    """The API shows the creator and the last use, even if the stored time is invalid."""
    name = named("ann")
    response = api.request("POST", "/tokens", {"name": name, "role": "editor", "own_token": api.token})
    assert (response.status, response.headers["Location"]) == (201, f"/api/v1/tokens/{name}")
    token = response.json["token"]
    assert (len(token), token[:8]) == (51, "sidekey_")
    identity = api.by(token).get("/whoami")["identity"]
    assert re.fullmatch("token:[0-9a-f]{32}", identity)
    assert api.by(token).get("/whoami") == {
        "name": name,
        "identity": identity,
        "label": "",
        "role": "editor",
        "source": "store",
        "presets": None,
        "per_minute": 60,
        "per_day": 1000,
        "expires_at": None,
        "session_ends_at": None,
    }
    wait_until(lambda: next(item for item in api.get("/tokens")["items"] if item["name"] == name)["last_used_at"])
    for altered, last_used_at in ("9000000000000000000", "9999-12-31T23:59:59Z"), ("'x'", "1970-01-01T00:00:00Z"):
        with closing(sqlite3.connect(running.child.config.parent / "store.db")) as database, database:
            database.execute(f"UPDATE sidekey_uses SET at = {altered}")
        assert api.get(f"/tokens/{name}")["last_used_at"] == last_used_at
    shown = api.get(f"/tokens/{name}")
    assert "token" not in shown
    assert shown["last_used_at"]
    assert (shown["role"], shown["created_by"], shown["source"]) == ("editor", "admin-of-file", "store")
    assert api.request("POST", "/tokens", {"name": name, "role": "viewer"}).code == "exists"
    for wrong in (name, "", "No Name"):
        response = api.request("POST", "/tokens", {"name": wrong, "role": "sender"})
        assert (response.code, response.pointers) == ("invalid", {"/name", "/presets"})
    response = api.request("POST", "/tokens", {"name": "", "role": "sender", "per_day": 0})
    assert response.pointers == {"/name", "/per_day"}
    assert api.request("DELETE", f"/tokens/{name}").code == "precondition_required"
    assert api.request("DELETE", f"/tokens/{name}", match='"2"').code == "changed"
    assert api.request("DELETE", f"/tokens/{name}", match='"1"').status == 204
    assert api.by(token).request("GET", "/whoami").code == "unauthenticated"


def test_creating_a_token_needs_the_own_token_again(api: Api, named: Named) -> None:
    """A person at somebody else's screen does not know the operator's token."""
    document = {"name": named("own"), "role": "viewer"}
    assert api.request("POST", "/tokens", document).pointers == {"/own_token"}
    assert api.request("POST", "/tokens", {**document, "own_token": 7}).pointers == {"/own_token"}
    for wrong in (TOKENS["editor"], ""):
        response = api.request("POST", "/tokens", {**document, "own_token": wrong})
        assert (response.status, response.code) == (403, "forbidden")


def test_grants_of_a_sender_are_presets_with_a_body(api: Api, named: Named) -> None:
    """A sender fills in the body. Other roles have no grants."""
    document = {"name": named("mark"), "own_token": api.token}
    sender = {**document, "role": "sender"}
    assert api.request("POST", "/tokens", sender).pointers == {"/presets"}
    for number in ("per_minute", "per_day"):
        for wrong in (0, True, 1.5, 10_001):
            assert api.request("POST", "/tokens", {**sender, number: wrong}).pointers == {f"/{number}"}
    presets = ["hook-of-a-file", "outside-of-a-file", "missing"]
    response = api.request("POST", "/tokens", {**sender, "presets": presets})
    assert [(error["pointer"], error["detail"]) for error in response.json["errors"]] == [
        ("/presets/1", "has no body, so a sender cannot fill it in"),
        ("/presets/2", "no preset has this ID"),
    ]
    response = api.request("POST", "/tokens", {**document, "role": "editor", "presets": presets[:1], "per_day": 5})
    assert response.pointers == {"/presets", "/per_day"}
    created = api.create("/tokens", {**sender, "presets": presets[:1], "per_minute": 5})
    granted = {"presets": presets[:1], "per_minute": 5, "per_day": 1000}
    assert api.get(f"/tokens/{document['name']}").items() >= granted.items()
    assert api.by(created["token"]).get("/whoami").items() >= {"role": "sender", **granted}.items()
    assert api.by(TOKENS["viewer"]).get("/whoami")["per_minute"] is None


def test_token_expires(api: Api, named: Named) -> None:
    """Expired and unknown tokens get the same response."""
    document = {"name": named("soon"), "role": "viewer", "own_token": api.token}
    # A slow machine needs a longer lifetime to use the token once.
    for life in (2, 8, 32):
        end = int(time.time()) + life
        soon = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        created = api.create("/tokens", {**document, "name": named("soon"), "expires_at": soon})
        assert created["expires_at"] == soon
        other = api.by(created["token"])
        response = other.request("GET", "/whoami")
        if time.time() < end:
            break
    assert response.json["expires_at"] == soon
    wait_until(lambda: other.request("GET", "/whoami").status == 401)
    ended, unknown = other.request("GET", "/whoami"), api.by("sidekey_unknown").request("GET", "/whoami")
    assert ended.json["detail"] == unknown.json["detail"]
    for wrong in ("2001-01-01T00:00:00Z", "tomorrow", 7, "2030-01-01", "2030-02-31T00:00:00Z"):
        response = api.request("POST", "/tokens", {**document, "name": named("x"), "expires_at": wrong})
        assert response.pointers == {"/expires_at"}


def test_response_has_all_errors_of_a_token(api: Api) -> None:
    response = api.request("POST", "/tokens", {"name": "ok", "role": "root", "expires_at": 1, "more": 1})
    assert response.pointers == {"/more", "/role", "/expires_at"}
    assert api.request("POST", "/tokens", {"name": "Not a name"}).pointers == {"/name", "/role"}
    surrogate = {"name": "ok", "role": "viewer", "own_token": "\ud800"}
    assert api.request("POST", "/tokens", surrogate).code == "malformed"


def test_stored_token_with_a_name_of_the_config_is_refused_and_can_be_revoked(
    api: Api, running: ApiSetup, named: Named
) -> None:
    """Otherwise the audit would have one name for two operators."""
    name, child = named("both"), running.child
    token = api.create("/tokens", {"name": name, "role": "admin", "own_token": api.token})["token"]
    assert api.by(token).get("/whoami")["source"] == "store"
    (child.config.parent / name).write_text("another-token-of-a-file")
    stanza = f"tokens: {{{name}: {{token: {{file: {name}}}, role: viewer}}, "
    with rewritten(child, child.config.read_text().replace("tokens: {", stanza, 1)):
        wait_until(lambda: api.by("another-token-of-a-file").request("GET", "/whoami").status == 200)
        assert api.by(token).request("GET", "/whoami").code == "unauthenticated"
        items = [item for item in api.get("/tokens")["items"] if item["name"] == name]
        assert [(item["source"], item["status"]) for item in items] == [("file", "ok"), ("store", "unusable")]
        assert api.get(f"/tokens/{name}")["status"] == "unusable"
        assert api.request("DELETE", f"/tokens/{name}", match='"1"').status == 204
        assert api.get(f"/tokens/{name}")["source"] == "file"
        assert api.request("DELETE", f"/tokens/{name}", match='"1"').code == "read_only"
    wait_until(lambda: api.by("another-token-of-a-file").request("GET", "/whoami").status == 401)


def test_tokens_of_the_config_are_listed_and_read_only(api: Api, running: ApiSetup) -> None:
    del running
    by_name = {item["name"]: item for item in api.get("/tokens")["items"]}
    assert (by_name["viewer-of-file"]["source"], by_name["viewer-of-file"]["role"]) == ("file", "viewer")
    assert api.get("/tokens/viewer-of-file") == by_name["viewer-of-file"]
    assert api.request("DELETE", "/tokens/viewer-of-file", match='"1"').code == "read_only"
    document = {"name": "viewer-of-file", "role": "viewer", "own_token": api.token}
    assert api.request("POST", "/tokens", document).code == "exists"
    assert api.request("GET", "/tokens/nobody").code == "not_found"


def create_sender(api: Api, name: str, **more: object) -> dict[str, Any]:
    """Create a sender with one preset of a file."""
    document = {"name": name, "role": "sender", "presets": ["hook-of-a-file"], "own_token": api.token, **more}
    created: dict[str, Any] = api.create("/tokens", document)
    return created


def test_grants_of_a_sender_change_without_a_new_token(api: Api, named: Named) -> None:
    name = named("mark")
    other = api.by(create_sender(api, name)["token"])
    confirmation = {"own_token": api.token}
    response = api.request("PATCH", f"/tokens/{name}", {"per_minute": 5, **confirmation}, match='"1"')
    assert (response.status, response.etag) == (200, '"2"')
    assert (response.json["presets"], response.json["per_minute"], response.json["per_day"]) == (
        ["hook-of-a-file"],
        5,
        1000,
    )
    assert other.get("/whoami")["per_minute"] == 5
    same = api.request(
        "PATCH", f"/tokens/{name}", {"per_minute": 5, "presets": ["hook-of-a-file"], **confirmation}, match='"2"'
    )
    assert (same.status, same.json["version"]) == (200, 2)
    assert [(item["action"], item["fields"]) for item in api.get(f"/audit?object=token&name={name}")["items"]] == [
        ("update", ["per_minute"]),
        ("create", ["role", "presets", "per_minute", "per_day", "expires_at", "token"]),
    ]
    assert [item["name"] for item in api.get("/tokens?preset=hook-of-a-file")["items"]].count(name) == 1
    assert api.get("/tokens?preset=outside-of-a-file")["items"] == []


def test_change_of_grants_is_confirmed_and_validated(api: Api, editor: Api, named: Named) -> None:
    name, reader = named("mark"), named("reader")
    create_sender(api, name)
    api.create("/tokens", {"name": reader, "role": "viewer", "own_token": api.token})
    confirmation = {"own_token": api.token}

    def patch(body: dict[str, Any], who: str = name, by: Api = api) -> ApiResponse:
        return by.request("PATCH", f"/tokens/{who}", body, match='"1"')

    assert patch({"per_minute": 5}).pointers == {"/own_token"}
    assert patch({"per_minute": 5, "own_token": TOKENS["editor"]}).code == "forbidden"
    assert patch({"per_minute": 5, **confirmation}, by=editor).code == "forbidden"
    assert patch({"per_minute": 0, "per_day": 10_001, "role": "admin", **confirmation}).pointers == {
        "/per_minute",
        "/per_day",
        "/role",
    }
    assert patch({"presets": [], **confirmation}).pointers == {"/presets"}
    wrong = patch({"presets": ["hook-of-a-file", "nothing", "outside-of-a-file"], **confirmation})
    assert wrong.pointers == {"/presets/1", "/presets/2"}
    assert "has no body" in wrong.body.decode()
    assert patch({"per_day": 5, **confirmation}, who=reader).pointers == {"/per_day"}
    assert patch({"per_day": 5, **confirmation}, who="viewer-of-file").code == "read_only"
    assert patch({"per_day": 5, **confirmation}, who="nobody").code == "not_found"
    assert api.request("PATCH", f"/tokens/{name}", confirmation, match='"2"').code == "changed"
    assert api.get(f"/tokens/{name}")["version"] == 1


def test_deleted_preset_in_the_grants_does_not_prevent_other_changes(api: Api, named: Named) -> None:
    name, preset = named("mark"), named("welcome")
    document = {
        "integration": "of-a-file",
        "url": "http://127.0.0.1:1/v1/x",
        "body": {"text": "x", "content_type": "text/plain"},
    }
    api.create("/presets", {"id": preset, **document})
    create_sender(api, name, presets=[preset])
    confirmation = {"own_token": api.token}
    without = {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x", "content_type": "text/plain"}
    assert api.request("PUT", f"/presets/{preset}", without, match='"1"').status == 200
    assert (
        api.request(
            "PATCH", f"/tokens/{name}", {"presets": [preset, "hook-of-a-file"], **confirmation}, match='"1"'
        ).status
        == 200
    )
    assert api.request("DELETE", f"/presets/{preset}", match='"2"').status == 204
    assert (
        api.request("PATCH", f"/tokens/{name}", {"presets": [preset], "per_day": 7, **confirmation}, match='"2"').status
        == 200
    )


def test_rotated_token_replaces_the_previous_one_and_keeps_the_identity(api: Api, named: Named) -> None:
    name = named("mark")
    before = api.by(create_sender(api, name, per_minute=7)["token"])
    who = before.get("/whoami")
    path, confirmation = f"/tokens/{name}/rotate", {"own_token": api.token}
    assert api.request("POST", path, {"own_token": before.token}, match='"1"').code == "forbidden"
    assert api.request("POST", path, confirmation, match='"2"').code == "changed"
    assert before.get("/whoami") == who
    response = api.request("POST", path, confirmation, match='"1"')
    assert (response.status, response.etag) == (200, '"2"')
    assert before.request("GET", "/whoami").code == "unauthenticated"
    assert api.by(response.json["token"]).get("/whoami") == who
    assert "token" not in api.get(f"/tokens/{name}")
    entry = api.get(f"/audit?object=token&name={name}")["items"][0]
    assert (entry["action"], entry["fields"]) == ("rotate", ["token"])
    assert api.request("POST", "/tokens/viewer-of-file/rotate", confirmation, match='"1"').code == "read_only"


def test_expired_token_is_not_rotated(api: Api, named: Named) -> None:
    name = named("mark")
    soon = datetime.fromtimestamp(time.time() + 2, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    create_sender(api, name, expires_at=soon)
    wait_until(lambda: time.time() > datetime.fromisoformat(soon).timestamp())
    response = api.request("POST", f"/tokens/{name}/rotate", {"own_token": api.token}, match='"1"')
    assert (response.code, "has expired" in response.json["detail"]) == ("invalid", True)
