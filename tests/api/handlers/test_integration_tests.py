"""api/handlers/integration_tests.py: what becomes of a request, without anything being changed."""

from __future__ import annotations

import json
from collections.abc import Callable

from support.api import Api, Running, basic
from support.stored import CANARY

Named = Callable[[str], str]


def test_a_test_is_sent_through_the_data_plane_and_shows_a_status_alone(
    api: Api, running: Running, named: Named
) -> None:
    """Only 200 is success; of Sidekey's own refusals it shows the code. One a second with one token."""
    name = named("tested")
    api.make("/integrations", {"id": name, **basic(running.upstream)})
    tester, other = (
        api.by(api.make("/tokens", {"name": named("tester"), "role": "viewer", "own_token": api.token})["token"])
        for _ in range(2)
    )
    said = tester.ask("POST", f"/integrations/{name}/test")
    assert said.status == 200
    assert said.json.keys() == {"ok", "request", "status", "code", "reason", "note", "milliseconds"}
    assert (said.json["ok"], said.json["status"], said.json["reason"]) == (True, 200, "OK, from the upstream")
    again = tester.ask("POST", f"/integrations/{name}/test")
    assert (again.status, again.code, again.headers["Retry-After"]) == (429, "too_many", "1")
    said = other.ask("POST", "/integrations/of-a-file/test")
    assert (said.code, said.pointers) == ("invalid", {"/test"})
    unreachable = named("unreachable")
    api.make("/integrations", {"id": unreachable, **basic(1)})
    found = other.ask("POST", f"/integrations/{unreachable}/test").json
    assert (found["ok"], found["status"], found["code"]) == (False, 502, "upstream_unreachable")


def test_a_draft_is_tested_with_the_secrets_that_came_with_it(api: Api, running: Running, named: Named) -> None:
    """And never with one that is stored, so that nobody learns by it what is."""
    tester = api.by(api.make("/tokens", {"name": named("drafts"), "role": "editor", "own_token": api.token})["token"])
    document = basic(running.upstream)
    assert tester.ask("POST", "/drafts/integration/test", document).json["ok"] is True
    name = named("kept")
    shown = api.make("/integrations", {"id": name, **document})
    said = tester.ask("POST", "/drafts/integration/test", shown)
    assert (said.code, said.pointers) == ("invalid", {"/auth/password", "/auth/username"})
    said = tester.ask("POST", "/drafts/integration/test", {**document, "test": None})
    assert (said.code, said.pointers) == ("invalid", {"/test"})
    assert "draft" not in {each["id"] for each in api.get("/integrations?q=draft")["items"]}


def test_explain_says_what_would_become_of_a_target(viewer: Api, running: Running, editor: Api, named: Named) -> None:
    """As the command does; a URL that no parser reads is an answer as well."""
    name = named("explained")
    editor.make("/integrations", {"id": name, **basic(running.upstream)})
    found = viewer.ask("POST", f"/integrations/{name}/explain", {"url": "/x"}).json
    assert (found["allowed"], found["sent_on"]) == (True, f"http://127.0.0.1:{running.upstream}/v1/x")
    found = viewer.ask("POST", f"/integrations/{name}/explain", {"url": "https://elsewhere.example/"}).json
    assert (found["allowed"], found["code"], found["credential"]) == (False, "target_denied", None)
    for wrong in ({"url": 7}, {"url": "/\n"}, {"url": "/é"}, {}):
        assert viewer.ask("POST", f"/integrations/{name}/explain", wrong).pointers == {"/url"}


def test_a_target_is_explained_that_may_be_sent(viewer: Api) -> None:
    """The data plane refuses a longer one, whatever it says."""
    longest = "/" + "x" * ((16 << 10) - 1)
    assert viewer.ask("POST", "/integrations/of-a-file/explain", {"url": longest}).status == 200
    said = viewer.ask("POST", "/integrations/of-a-file/explain", {"url": f"{longest}x"})
    assert (said.code, said.pointers) == ("invalid", {"/url"})


def test_what_is_signed_of_a_request_is_shown_without_key_and_signature(
    viewer: Api, editor: Api, named: Named, running: Running
) -> None:
    """As the command shows it, by the same function; what is injected is redacted in its place."""
    name = named("signed")
    signature = {
        "scheme": "custom",
        "secret": {"value": f"{CANARY}-of-the-signing-key"},
        "algorithm": "hmac-sha256",
        "signed": "{timestamp}.{method}.{target}.{header:X-Own}.{body}",
        "headers": {"X-Signature": "t={timestamp},{signature}"},
    }
    add = {"query": {"key": {"secret": {"value": f"{CANARY}-of-the-query"}}}}
    editor.make("/integrations", {"id": name, **basic(running.upstream), "signature": signature, "add": add})
    request = {"url": "/x?a=b", "method": "post", "headers": [["X-Own", "mine"]], "body": "café\n", "at": "1700000000"}
    said = viewer.ask("POST", f"/integrations/{name}/explain", request)
    assert said.json["signed"] == [r"1700000000.POST./v1/x?a=b&key=[redacted].mine.caf\xc3\xa9\n"]
    assert said.json["unsigned"] is None
    assert said.json["credential"]["signature"] == ["x-signature"]
    assert CANARY not in json.dumps(said.json)
    told = viewer.ask("POST", f"/integrations/{name}/explain", {"url": "/x"}).json
    assert (told["signed"], told["unsigned"][:15]) == ([], "request_invalid")
    for never in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert viewer.ask("POST", f"/integrations/{name}/explain", {**request, "at": never}).pointers == {"/at"}
    assert "signed" not in viewer.ask("POST", "/integrations/of-a-file/explain", {"url": "/x"}).json


def test_a_request_that_cannot_be_is_refused_with_every_reason(viewer: Api) -> None:
    """What is sent is judged as the command judges it."""
    wrong = {
        "url": 1,
        "method": "GE T",
        "headers": [["Host", "a"], ["X-Own"], "X-Own: a", ["X-Own", 1]],
        "body": ["a"],
        "at": "then",
        "more": 1,
    }
    said = viewer.ask("POST", "/integrations/of-a-file/explain", wrong)
    rows = {f"/headers/{index}" for index in range(4)}
    assert (said.code, said.pointers) == ("invalid", {"/url", "/method", "/body", "/at", "/more", *rows})
    for wrong in ({"headers": 1}, {"method": 1}, {"at": None}, {"body": None}):
        said = viewer.ask("POST", "/integrations/of-a-file/explain", {"url": "/x", **wrong})
        assert said.pointers == {f"/{key}" for key in wrong}
