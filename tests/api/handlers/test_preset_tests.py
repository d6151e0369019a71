"""Previews of presets, and previews and tests of drafts."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.api import TOKENS, Api, managed
from support.http_get import wait_until
from support.recording import recording
from support.upstream import RawUpstream
from support.wire import Message

SECRET = "a-canary-of-presets-4711"
AUTHORIZATION = b"Basic " + b64encode(f"svc:{SECRET}".encode())


def config(port: int) -> str:
    """Build presets of a file: with parameters, with a payload, and one that its integration does not allow."""
    base = f"http://127.0.0.1:{port}"
    parameters = "{user: {type: text, max_length: 8}, points: {type: number, default: 0}}"
    return f"""\
callers: {{none: {{token: {{insecure_value: the-token-of-a-file}}}}}}
integrations:
  crm:
    endpoint_prefix: {base}/api
    auth: {{type: basic, username: svc, password: {{insecure_value: {SECRET}}}}}
  keyed:
    endpoint_prefix: {base}/keyed
    auth: {{type: headers, headers: {{X-Key: {{secret: {{insecure_value: {SECRET}}}}}, X-Tenant: acme}}}}
  missing:
    endpoint_prefix: {base}/missing
    auth: {{type: basic, username: svc, password: {{file: no-such-file}}}}
presets:
  welcome:
    integration: crm
    method: PUT
    url: "{base}/api/u/{{{{user}}}}"
    headers: {{X-Source: sidekey, X-User: "{{{{user}}}}"}}
    parameters: {parameters}
    body: {{json: {{points: "{{{{points}}}}", text: "Hello {{{{user}}}}"}}}}
  event: {{integration: keyed, url: "{base}/keyed/event", content_type: text/plain}}
  outside: {{integration: crm, url: "{base}/other", content_type: text/plain}}
"""


@dataclass(frozen=True)
class Running:
    """A process with presets of a file, and their upstream."""

    port: int
    upstream: RawUpstream

    def document(self, **keys: Any) -> dict[str, Any]:
        """Build a draft."""
        url = f"http://127.0.0.1:{self.upstream.port}/api/hook"
        return {"integration": "crm", "url": url, **keys}

    def last(self) -> Message:
        """Return the last request that the upstream received."""
        return self.upstream.requests[-1]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("presets")
    with recording() as upstream, managed(folder, more=config(upstream.port)) as child:
        yield Running(child.admin_port, upstream)


@pytest.fixture
def api(running: Running) -> Api:
    """The API with an admin's token."""
    return Api(running.port)


@pytest.fixture
def viewer(api: Api) -> Api:
    """The API with a viewer's token."""
    return api.by(TOKENS["viewer"])


def new_operator(api: Api, name: str, role: str = "editor") -> Api:
    """Create an operator without recent tests, and return the API with its token."""
    return api.by(api.create("/tokens", {"name": name, "role": role, "own_token": api.token})["token"])


def received_count(running: Running) -> int:
    return len(running.upstream.requests)


def test_preview_shows_the_request(viewer: Api, running: Running) -> None:
    """The preview has a placeholder for the credential. Sidekey sends nothing."""
    before = received_count(running)
    response = viewer.request("POST", "/presets/welcome/preview", {"parameters": {"user": "a b"}})
    assert response.status == 200
    assert SECRET.encode() not in response.body
    assert response.json == {
        "preset": "welcome",
        "integration": "crm",
        "request": {
            "method": "PUT",
            "url": f"http://127.0.0.1:{running.upstream.port}/api/u/a%20b",
            "headers": [
                ["Authorization", "[credential]"],
                ["X-Source", "sidekey"],
                ["X-User", "a b"],
                ["Content-Type", "application/json"],
            ],
            "body": '{"points":0,"text":"Hello a b"}',
        },
        "credential": {"headers": ["Authorization"]},
        "code": None,
        "reason": None,
    }
    assert received_count(running) == before


def test_upstream_receives_the_previewed_request(api: Api, running: Running) -> None:
    """The request is equal byte for byte, with the credential instead of its placeholder."""
    body = {"parameters": {"user": "é<&", "points": 7}}
    shown = api.request("POST", "/presets/welcome/preview", body).json["request"]
    response = api.request("POST", "/presets/welcome/sends", body, headers={"Idempotency-Key": "a-key-of-one-send"})
    assert (response.status, response.json["outcome"]) == (200, "accepted")
    assert SECRET.encode() not in response.body
    request = running.last()
    base = f"http://127.0.0.1:{running.upstream.port}"
    assert (request.method.decode(), base + request.target.decode()) == (shown["method"], shown["url"])
    assert request.body == shown["body"].encode() == '{"points":7,"text":"Hello é<&"}'.encode()
    names = [name.lower() for name, _ in shown["headers"]]
    assert [name for field, _ in request.headers if (name := field.decode().lower()) in names] == names
    for name, value in shown["headers"]:
        expected = AUTHORIZATION if name == "Authorization" else value.encode()
        assert request.values(name.lower().encode()) == [expected]


def test_payload_is_sent_unchanged(api: Api, running: Running) -> None:
    """The caller chooses the parameters of Content-Type. The preview lists all headers of the credential."""
    sent = {"payload": "so\r\nürgent", "content_type": "text/plain; format=flowed"}
    shown = api.request("POST", "/presets/event/preview", sent).json
    assert shown["credential"] == {"headers": ["X-Key", "X-Tenant"]}
    assert shown["request"]["body"] == sent["payload"]
    assert shown["request"]["headers"] == [
        ["X-Key", "[credential]"],
        ["X-Tenant", "[credential]"],
        ["Content-Type", "text/plain; format=flowed"],
    ]
    draft = running.document(integration="keyed", url=f"http://127.0.0.1:{running.upstream.port}/keyed/event")
    tested = {**draft, "content_type": "text/plain", "sample": sent}
    assert new_operator(api, "payloads").request("POST", "/drafts/preset/test", tested).json["ok"] is True
    request = running.last()
    assert request.body == "so\r\nürgent".encode()
    assert request.values(b"content-type") == [b"text/plain; format=flowed"]
    assert request.values(b"x-key") == [SECRET.encode()]
    denied = {"payload": "x", "content_type": "text/html"}
    shown = api.request("POST", "/presets/event/preview", denied).json
    assert (shown["request"], shown["credential"], shown["code"]) == (None, None, "content_type_denied")


@pytest.mark.parametrize(
    ("preset", "sent", "pointers"),
    [
        (
            "welcome",
            {"parameters": {"points": "x", "more": 1}},
            {"/parameters/points", "/parameters/more", "/parameters/user"},
        ),
        ("welcome", {"parameters": {"user": "../../a"}}, {"/parameters/user"}),
        ("welcome", {"parameters": {"user": "too long for it"}}, {"/parameters/user"}),
        ("welcome", {"parameters": 7}, {"/parameters"}),
        ("welcome", {"payload": "x", "content_type": "a/b"}, {"/payload", "/content_type"}),
        ("event", {"parameters": {}}, {"/parameters"}),
        ("event", {"payload": 7, "content_type": "x\r\ny: z", "url": "x"}, {"/payload", "/content_type", "/url"}),
        ("event", {"content_type": None}, {"/content_type"}),
    ],
)
def test_response_has_all_errors_of_the_sample(api: Api, preset: str, sent: dict[str, Any], pointers: set[str]) -> None:
    """Each error has a pointer and does not repeat the value."""
    response = api.request("POST", f"/presets/{preset}/preview", sent)
    assert (response.status, response.code, response.pointers) == (422, "invalid", pointers)
    assert b"too long" not in response.body
    assert b"../" not in response.body


def test_preview_of_an_unusable_preset_has_the_reason(api: Api) -> None:
    shown = api.request("POST", "/presets/outside/preview", {"payload": ""}).json
    assert (shown["request"], shown["code"]) == (None, "credential_unavailable")
    assert shown["reason"].startswith("must be allowed by integration crm")


def test_draft_is_previewed_and_sent_without_being_saved(api: Api, running: Running) -> None:
    body = {"json": {"n": "{{n}}", "s": "<{{n}}>"}}
    document = running.document(id="not-yet", method="PATCH", parameters={"n": {"type": "number"}}, body=body)
    sent = {**document, "sample": {"parameters": {"n": 1.5}}}
    shown = api.request("POST", "/drafts/preset/preview", sent).json
    assert (shown["preset"], shown["integration"], shown["code"]) == ("not-yet", "crm", None)
    response = new_operator(api, "drafter").request("POST", "/drafts/preset/test", sent)
    result = response.json
    assert (result["ok"], result["status"], result["request"]) == (True, 200, "POST /p/draft")
    assert result["note"] == "this was a real request: the upstream may have acted on it"
    assert SECRET.encode() not in response.body
    request = running.last()
    assert (request.method, request.target, request.body) == (b"PATCH", b"/api/hook", b'{"n":1.5,"s":"<1.5>"}')
    assert request.values(b"authorization") == [AUTHORIZATION]
    assert api.request("POST", "/presets/not-yet/preview", {}).code == "not_found"
    assert "id" not in (unnamed := {key: value for key, value in document.items() if key != "id"})
    assert api.request("POST", "/drafts/preset/preview", unnamed).json["preset"] is None


def test_draft_without_a_sample_is_previewed_with_examples(api: Api, running: Running) -> None:
    parameters = {
        "who": {"type": "text", "max_length": 2},
        "n": {"type": "number"},
        "one": {"type": "text", "enum": ["b", "c"]},
        "kept": {"type": "text", "default": "d"},
        "on": {"type": "boolean"},
        "shown": {"type": "number", "default": 1, "example": 2},
    }
    draft = running.document(parameters=parameters, body={"json": {name: f"{{{{{name}}}}}" for name in parameters}})
    shown = api.request("POST", "/drafts/preset/preview", draft).json["request"]["body"]
    examples = {"who": "wh", "n": 1.5, "one": "b", "kept": "d", "on": True, "shown": 2}
    assert json.loads(shown) == examples
    for keys, payload in (({}, '{"event": "example"}'), ({"content_type": "text/plain"}, "example")):
        draft = running.document(**keys)
        assert api.request("POST", "/drafts/preset/preview", draft).json["request"]["body"] == payload
    assert api.request("POST", "/drafts/preset/preview", {"body": {}, "parameters": 7}).code == "invalid"


def test_draft_and_sample_may_be_yaml(api: Api, running: Running) -> None:
    text = f"""
id: hook
integration: crm
url: http://127.0.0.1:{running.upstream.port}/api/hook
parameters:
  n: {{type: number}}
body:
  json:
    n: "{{{{n}}}}"
sample:
  parameters:
    n: NUMBER
"""
    as_yaml = {"Content-Type": "application/yaml"}
    good = text.replace("NUMBER", "7").encode()
    response = api.request("POST", "/drafts/preset/preview", good, headers=as_yaml)
    assert response.json["request"]["body"] == '{"n":7}'
    response = api.request("POST", "/drafts/preset/preview", text.encode(), headers=as_yaml)
    (error,) = response.json["errors"]
    assert (error["pointer"], error["line"], error["column"]) == ("/sample/parameters/n", 12, 8)


def test_response_has_all_errors_of_draft_and_sample(api: Api, running: Running) -> None:
    """Sidekey validates the sample even if the document is invalid."""
    document = running.document(
        id="No ID",
        method="HEAD",
        headers={"Host": "x", "X-A": "{{nothing}}"},
        parameters={"n": {"type": "number", "max_length": 3}},
        body={"json": {"a": {"b": "{{no}}"}}},
    )
    sent = {**document, "sample": {"parameters": [], "more": 1}}
    for action in ("preview", "test"):
        response = api.request("POST", f"/drafts/preset/{action}", sent)
        assert (response.status, response.code) == (422, "invalid")
        assert response.pointers >= {"/id", "/method", "/headers/Host", "/sample/parameters", "/sample/more"}
        assert response.pointers >= {"/parameters/n/max_length", "/body/json/a/b"}
    whole = running.document(integration="nobody", parameters={"n": {"type": "number"}}, body={"json": {"a": "{{n}}"}})
    response = api.request("POST", "/drafts/preset/preview", {**whole, "sample": {"parameters": {"n": "x"}}})
    assert response.pointers == {"/integration", "/sample/parameters/n"}
    assert api.request("POST", "/drafts/preset/preview", {**whole, "sample": []}).pointers == {"/sample"}


def test_draft_needs_a_usable_integration_that_allows_the_url(api: Api, running: Running) -> None:
    """Otherwise Sidekey sends nothing."""
    before = received_count(running)
    tester = new_operator(api, "unusable")
    base = f"http://127.0.0.1:{running.upstream.port}"
    cases = [
        (running.document(integration="missing", url=f"{base}/missing/x"), "/integration"),
        (running.document(url=f"{base}/elsewhere"), "/url"),
        (running.document(headers={"Authorization": "x"}), "/headers/Authorization"),
    ]
    for document, pointer in cases:
        for action in ("preview", "test"):
            response = tester.request("POST", f"/drafts/preset/{action}", document)
            assert (response.code, response.pointers) == ("invalid", {pointer})
    assert received_count(running) == before


def test_test_with_a_stored_credential_needs_the_audit(tmp_path: Path) -> None:
    """While the store is unavailable, tests of integrations and preset drafts are refused with 503."""
    with recording() as upstream, managed(tmp_path, more=config(upstream.port)) as child:
        running, api = Running(child.admin_port, upstream), Api(child.admin_port)
        prefix = f"http://127.0.0.1:{upstream.port}/api"
        integration = {"endpoint_prefix": prefix, "auth": {"type": "basic", "username": {"value": "svc"}}}
        api.create("/integrations", {"id": "stored", **integration, "test": {"path": "/x"}})
        tests = [
            (new_operator(api, "first"), "/integrations/stored/test", None),
            (new_operator(api, "second"), "/drafts/preset/test", running.document(id="later")),
        ]
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        (tmp_path / "store.db").mkdir()
        for tester, path, body in tests:
            response = tester.request("POST", path, body)
            assert (path, response.status, response.code) == (path, 503, "store_unavailable")
        assert received_count(running) == 0
        (tmp_path / "store.db").rmdir()
        (tmp_path / "away.db").rename(tmp_path / "store.db")
        for tester, path, body in tests:
            # Less than a second may have passed since the last test.
            wait_until(lambda tester=tester, path=path, body=body: tester.request("POST", path, body).status == 200)
        listed = [item["outcome"] for item in api.get("/audit")["items"] if item["action"] == "test"]
        assert listed == ["ok"] * 2
        assert received_count(running) == 2


def test_tests_of_drafts_are_rate_limited_and_audited(api: Api, running: Running) -> None:
    """The audit entry has the future ID of the preset."""
    draft, testers = running.document(id="later"), ["limited", "other"]
    for name in testers:
        tester = new_operator(api, name)
        assert tester.request("POST", "/drafts/preset/test", draft).status == 200
        again = tester.request("POST", "/drafts/preset/test", draft)
        assert (again.code, again.headers["Retry-After"]) == ("too_many", "1")
    items = [item for item in api.get("/audit")["items"] if item["action"] == "test" and item["who"] in testers]
    assert [(item["who"], item["object"], item["name"], item["outcome"]) for item in items] == [
        ("other", "preset", "later", "ok"),
        ("limited", "preset", "later", "ok"),
    ]
