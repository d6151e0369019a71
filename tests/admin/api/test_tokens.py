"""admin/api/tokens.py: operators' tokens are made by those who show theirs again, shown once, and end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

from support.api import TOKENS, Api, Running, rewritten
from support.ask import within

Named = Callable[[str], str]


def test_a_token_is_shown_once_and_counts_at_once(api: Api, named: Named) -> None:
    """It says who sends it; its last use is noted."""
    name = named("ann")
    said = api.ask("POST", "/tokens", {"name": name, "role": "editor", "own_token": api.token})
    assert (said.status, said.headers["Location"]) == (201, f"/api/v1/tokens/{name}")
    token = said.json["token"]
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
    within(lambda: next(each for each in api.get("/tokens")["items"] if each["name"] == name)["last_used_at"])
    shown = api.get(f"/tokens/{name}")
    assert "token" not in shown
    assert shown["last_used_at"]
    assert (shown["role"], shown["created_by"], shown["source"]) == ("editor", "admin-of-file", "store")
    assert api.ask("POST", "/tokens", {"name": name, "role": "viewer", "own_token": api.token}).code == "exists"
    assert api.ask("DELETE", f"/tokens/{name}").code == "precondition_required"
    assert api.ask("DELETE", f"/tokens/{name}", match='"2"').code == "changed"
    assert api.ask("DELETE", f"/tokens/{name}", match='"1"').status == 204
    assert api.by(token).ask("GET", "/whoami").code == "unauthenticated"


def test_making_a_token_needs_ones_own_again(api: Api, named: Named) -> None:
    """Whoever sits down at somebody else's screen does not have it."""
    document = {"name": named("own"), "role": "viewer"}
    assert api.ask("POST", "/tokens", document).pointers == {"/own_token"}
    assert api.ask("POST", "/tokens", {**document, "own_token": 7}).pointers == {"/own_token"}
    for wrong in (TOKENS["editor"], ""):
        said = api.ask("POST", "/tokens", {**document, "own_token": wrong})
        assert (said.status, said.code) == (403, "forbidden")


def test_grants_of_a_sender_are_presets_with_a_body(api: Api, named: Named) -> None:
    """A sender fills the body in, so there must be one. Other roles have no grants."""
    document = {"name": named("mark"), "own_token": api.token}
    sender = {**document, "role": "sender"}
    assert api.ask("POST", "/tokens", sender).pointers == {"/presets"}
    for number in ("per_minute", "per_day"):
        for wrong in (0, True, 1.5, 10_001):
            assert api.ask("POST", "/tokens", {**sender, number: wrong}).pointers == {f"/{number}"}
    presets = ["hook-of-a-file", "outside-of-a-file", "missing"]
    said = api.ask("POST", "/tokens", {**sender, "presets": presets})
    assert [(each["pointer"], each["detail"]) for each in said.json["errors"]] == [
        ("/presets/1", "has no body, so a sender cannot fill it in"),
        ("/presets/2", "no preset has this ID: see `GET /presets`"),
    ]
    said = api.ask("POST", "/tokens", {**document, "role": "editor", "presets": presets[:1], "per_day": 5})
    assert said.pointers == {"/presets", "/per_day"}
    made = api.make("/tokens", {**sender, "presets": presets[:1], "per_minute": 5})
    granted = {"presets": presets[:1], "per_minute": 5, "per_day": 1000}
    assert api.get(f"/tokens/{document['name']}").items() >= granted.items()
    assert api.by(made["token"]).get("/whoami").items() >= {"role": "sender", **granted}.items()
    assert api.by(TOKENS["viewer"]).get("/whoami")["per_minute"] is None


def test_a_token_ends_when_it_says(api: Api, named: Named) -> None:
    """The response is that to any other token that does not count."""
    document = {"name": named("soon"), "role": "viewer", "own_token": api.token}
    # A token lives as long as this machine needs to use it once.
    for life in (2, 8, 32):
        end = int(time.time()) + life
        soon = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        made = api.make("/tokens", {**document, "name": named("soon"), "expires_at": soon})
        assert made["expires_at"] == soon
        theirs = api.by(made["token"])
        said = theirs.ask("GET", "/whoami")
        if time.time() < end:
            break
    assert said.json["expires_at"] == soon
    within(lambda: theirs.ask("GET", "/whoami").status == 401)
    ended, unknown = theirs.ask("GET", "/whoami"), api.by("sidekey_unknown").ask("GET", "/whoami")
    assert ended.json["detail"] == unknown.json["detail"]
    for wrong in ("2001-01-01T00:00:00Z", "tomorrow", 7, "2030-01-01", "2030-02-31T00:00:00Z"):
        said = api.ask("POST", "/tokens", {**document, "name": named("x"), "expires_at": wrong})
        assert said.pointers == {"/expires_at"}


def test_errors_of_a_token_come_at_once(api: Api) -> None:
    """By pointers."""
    said = api.ask("POST", "/tokens", {"name": "ok", "role": "root", "expires_at": 1, "more": 1})
    assert said.pointers == {"/more", "/role", "/expires_at", "/own_token"}
    assert api.ask("POST", "/tokens", {"name": "Not a name"}).pointers == {"/name", "/role", "/own_token"}
    half = {"name": "ok", "role": "viewer", "own_token": "\ud800"}
    assert api.ask("POST", "/tokens", half).code == "malformed"


def test_a_stored_token_whose_name_the_config_has_does_not_count_and_can_be_revoked(
    api: Api, running: Running, named: Named
) -> None:
    """Else the audit would say one name for two tokens, of which nobody sees the second."""
    name, child = named("both"), running.child
    token = api.make("/tokens", {"name": name, "role": "admin", "own_token": api.token})["token"]
    assert api.by(token).get("/whoami")["source"] == "store"
    (child.config.parent / name).write_text("another-token-of-a-file")
    stanza = f"tokens: {{{name}: {{token: {{file: {name}}}, role: viewer}}, "
    with rewritten(child, child.config.read_text().replace("tokens: {", stanza, 1)):
        within(lambda: api.by("another-token-of-a-file").ask("GET", "/whoami").status == 200)
        assert api.by(token).ask("GET", "/whoami").code == "unauthenticated"
        found = [each for each in api.get("/tokens")["items"] if each["name"] == name]
        assert [(each["source"], each["status"]) for each in found] == [("file", "ok"), ("store", "unusable")]
        assert api.get(f"/tokens/{name}")["status"] == "unusable"
        assert api.ask("DELETE", f"/tokens/{name}", match='"1"').status == 204
        assert api.get(f"/tokens/{name}")["source"] == "file"
        assert api.ask("DELETE", f"/tokens/{name}", match='"1"').code == "read_only"
    within(lambda: api.by("another-token-of-a-file").ask("GET", "/whoami").status == 401)


def test_tokens_of_the_config_are_listed_and_read_only(api: Api, running: Running) -> None:
    """They are revoked where they are written."""
    del running
    found = {each["name"]: each for each in api.get("/tokens")["items"]}
    assert (found["viewer-of-file"]["source"], found["viewer-of-file"]["role"]) == ("file", "viewer")
    assert api.get("/tokens/viewer-of-file") == found["viewer-of-file"]
    assert api.ask("DELETE", "/tokens/viewer-of-file", match='"1"').code == "read_only"
    document = {"name": "viewer-of-file", "role": "viewer", "own_token": api.token}
    assert api.ask("POST", "/tokens", document).code == "exists"
    assert api.ask("GET", "/tokens/nobody").code == "not_found"
