"""`/test`, `/explain` and `/drafts/integration/test` change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

from support.api import Api, ApiSetup, basic
from support.stored import CANARY

Named = Callable[[str], str]


def test_test_shows_only_the_status_and_is_rate_limited(api: Api, running: ApiSetup, named: Named) -> None:
    """An error of Sidekey has its code. Each token has one test a second."""
    name = named("tested")
    api.create("/integrations", {"id": name, **basic(running.upstream)})
    tester, other = (
        api.by(api.create("/tokens", {"name": named("tester"), "role": "viewer", "own_token": api.token})["token"])
        for _ in range(2)
    )
    response = tester.request("POST", f"/integrations/{name}/test")
    assert response.status == 200
    assert response.json.keys() == {"ok", "request", "status", "code", "reason", "note", "milliseconds"}
    assert (response.json["ok"], response.json["status"], response.json["reason"]) == (
        True,
        200,
        "OK, from the upstream",
    )
    again = tester.request("POST", f"/integrations/{name}/test")
    assert (again.status, again.code, again.headers["Retry-After"]) == (429, "too_many", "1")
    response = other.request("POST", "/integrations/of-a-file/test")
    assert (response.code, response.pointers) == ("invalid", {"/test"})
    unreachable = named("unreachable")
    api.create("/integrations", {"id": unreachable, **basic(1)})
    body = other.request("POST", f"/integrations/{unreachable}/test").json
    assert (body["ok"], body["status"], body["code"]) == (False, 502, "upstream_unreachable")


def test_draft_is_tested_with_the_secrets_in_the_request(api: Api, running: ApiSetup, named: Named) -> None:
    """A draft cannot use stored secrets, because it could send them anywhere."""
    tester = api.by(api.create("/tokens", {"name": named("drafts"), "role": "editor", "own_token": api.token})["token"])
    document = basic(running.upstream)
    assert tester.request("POST", "/drafts/integration/test", document).json["ok"] is True
    name = named("kept")
    shown = api.create("/integrations", {"id": name, **document})
    response = tester.request("POST", "/drafts/integration/test", shown)
    assert (response.code, response.pointers) == ("invalid", {"/auth/password", "/auth/username"})
    response = tester.request("POST", "/drafts/integration/test", {**document, "test": None})
    assert (response.code, response.pointers) == ("invalid", {"/test"})
    assert "draft" not in {item["id"] for item in api.get("/integrations?q=draft")["items"]}


def test_explain_describes_the_decision_on_a_target(viewer: Api, running: ApiSetup, editor: Api, named: Named) -> None:
    name = named("explained")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    body = viewer.request("POST", f"/integrations/{name}/explain", {"url": "/x"}).json
    assert (body["allowed"], body["sent_on"]) == (True, f"http://127.0.0.1:{running.upstream}/v1/x")
    body = viewer.request("POST", f"/integrations/{name}/explain", {"url": "https://elsewhere.example/"}).json
    assert (body["allowed"], body["code"], body["credential"]) == (False, "target_denied", None)
    for wrong in ({"url": 7}, {"url": "/\n"}, {"url": "/é"}, {}):
        assert viewer.request("POST", f"/integrations/{name}/explain", wrong).pointers == {"/url"}


def test_target_beyond_the_limit_is_not_explained(viewer: Api) -> None:
    """The data plane refuses this target, too."""
    longest = "/" + "x" * ((16 << 10) - 1)
    assert viewer.request("POST", "/integrations/of-a-file/explain", {"url": longest}).status == 200
    response = viewer.request("POST", "/integrations/of-a-file/explain", {"url": f"{longest}x"})
    assert (response.code, response.pointers) == ("invalid", {"/url"})


def test_explain_shows_the_signed_bytes_without_key_and_signature(
    viewer: Api, editor: Api, named: Named, running: ApiSetup
) -> None:
    """Injected values are redacted."""
    name = named("signed")
    signature = {
        "scheme": "custom",
        "secret": {"value": f"{CANARY}-of-the-signing-key"},
        "algorithm": "hmac-sha256",
        "signed": "{timestamp}.{method}.{target}.{header:X-Own}.{body}",
        "headers": {"X-Signature": "t={timestamp},{signature}"},
    }
    add = {"query": {"key": {"secret": {"value": f"{CANARY}-of-the-query"}}}}
    editor.create("/integrations", {"id": name, **basic(running.upstream), "signature": signature, "add": add})
    request = {"url": "/x?a=b", "method": "post", "headers": [["X-Own", "mine"]], "body": "café\n", "at": "1700000000"}
    response = viewer.request("POST", f"/integrations/{name}/explain", request)
    assert response.json["signed"] == [r"1700000000.POST./v1/x?a=b&key=[redacted].mine.caf\xc3\xa9\n"]
    assert response.json["unsigned"] is None
    assert response.json["credential"]["signature"] == ["x-signature"]
    assert CANARY not in json.dumps(response.json)
    body = viewer.request("POST", f"/integrations/{name}/explain", {"url": "/x"}).json
    assert (body["signed"], body["unsigned"][:15]) == ([], "request_invalid")
    for out_of_range in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert viewer.request("POST", f"/integrations/{name}/explain", {**request, "at": out_of_range}).pointers == {
            "/at"
        }
    assert "signed" not in viewer.request("POST", "/integrations/of-a-file/explain", {"url": "/x"}).json


def test_invalid_request_to_explain_has_all_errors(viewer: Api) -> None:
    wrong = {
        "url": 1,
        "method": "GE T",
        "headers": [["Host", "a"], ["X-Own"], "X-Own: a", ["X-Own", 1]],
        "body": ["a"],
        "at": "then",
        "more": 1,
    }
    response = viewer.request("POST", "/integrations/of-a-file/explain", wrong)
    rows = {f"/headers/{index}" for index in range(4)}
    assert (response.code, response.pointers) == ("invalid", {"/url", "/method", "/body", "/at", "/more", *rows})
    for wrong in ({"headers": 1}, {"method": 1}, {"at": None}, {"body": None}):
        response = viewer.request("POST", "/integrations/of-a-file/explain", {"url": "/x", **wrong})
        assert response.pointers == {f"/{key}" for key in wrong}
