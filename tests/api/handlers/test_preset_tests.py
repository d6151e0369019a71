"""api/handlers/preset_tests.py: the request that a preset makes, previewed, and drafts that are tested."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.api import TOKENS, Api, managed
from support.http_get import within
from support.recording import recording
from support.upstream import RawUpstream
from support.wire import Message

SECRET = "a-canary-of-presets-4711"
AUTHORIZATION = b"Basic " + b64encode(f"svc:{SECRET}".encode())


def config(port: int) -> str:
    """Presets of a file: with parameters, with a payload, and one that does not fit."""
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
    """A process with presets of a file, and the upstream that they go to."""

    port: int
    upstream: RawUpstream

    def document(self, **keys: Any) -> dict[str, Any]:
        """A draft."""
        url = f"http://127.0.0.1:{self.upstream.port}/api/hook"
        return {"integration": "crm", "url": url, **keys}

    def last(self) -> Message:
        """The request that arrived last."""
        return self.upstream.requests[-1]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One for all."""
    folder = tmp_path_factory.mktemp("presets")
    with recording() as upstream, managed(folder, more=config(upstream.port)) as child:
        yield Running(child.admin_port, upstream)


@pytest.fixture
def api(running: Running) -> Api:
    """By an admin's token."""
    return Api(running.port)


@pytest.fixture
def viewer(api: Api) -> Api:
    """By a viewer's."""
    return api.by(TOKENS["viewer"])


def fresh(api: Api, name: str, role: str = "editor") -> Api:
    """By a token that nobody has tested with yet."""
    return api.by(api.make("/tokens", {"name": name, "role": role, "own_token": api.token})["token"])


def arrived(running: Running) -> int:
    """How many requests have."""
    return len(running.upstream.requests)


def test_a_preview_is_the_request_that_would_be_made(viewer: Api, running: Running) -> None:
    """In the order that it is written in; the credential is named. Nothing arrives."""
    before = arrived(running)
    said = viewer.ask("POST", "/presets/welcome/preview", {"parameters": {"user": "a b"}})
    assert said.status == 200
    assert SECRET.encode() not in said.body
    assert said.json == {
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
    assert arrived(running) == before


def test_what_a_preview_shows_is_what_arrives(api: Api, running: Running) -> None:
    """Method, target, headers and their order, and the body, byte for byte; with the credential in its place."""
    body = {"parameters": {"user": "é<&", "points": 7}}
    shown = api.ask("POST", "/presets/welcome/preview", body).json["request"]
    said = api.ask("POST", "/presets/welcome/sends", body, headers={"Idempotency-Key": "a-key-of-one-send"})
    assert (said.status, said.json["outcome"]) == (200, "accepted")
    assert SECRET.encode() not in said.body
    request = running.last()
    base = f"http://127.0.0.1:{running.upstream.port}"
    assert (request.method.decode(), base + request.target.decode()) == (shown["method"], shown["url"])
    assert request.body == shown["body"].encode() == '{"points":7,"text":"Hello é<&"}'.encode()
    names = [name.lower() for name, _ in shown["headers"]]
    assert [name for each, _ in request.headers if (name := each.decode().lower()) in names] == names
    for name, value in shown["headers"]:
        expected = AUTHORIZATION if name == "Authorization" else value.encode()
        assert request.values(name.lower().encode()) == [expected]


def test_a_payload_is_sent_as_it_is(api: Api, running: Running) -> None:
    """With its own Content-Type where the preset leaves parameters of that to callers; the places are all named."""
    sent = {"payload": "so\r\nürgent", "content_type": "text/plain; format=flowed"}
    shown = api.ask("POST", "/presets/event/preview", sent).json
    assert shown["credential"] == {"headers": ["X-Key", "X-Tenant"]}
    assert shown["request"]["body"] == sent["payload"]
    assert shown["request"]["headers"] == [
        ["X-Key", "[credential]"],
        ["X-Tenant", "[credential]"],
        ["Content-Type", "text/plain; format=flowed"],
    ]
    draft = running.document(integration="keyed", url=f"http://127.0.0.1:{running.upstream.port}/keyed/event")
    tested = {**draft, "content_type": "text/plain", "sample": sent}
    assert fresh(api, "payloads").ask("POST", "/drafts/preset/test", tested).json["ok"] is True
    request = running.last()
    assert request.body == "so\r\nürgent".encode()
    assert request.values(b"content-type") == [b"text/plain; format=flowed"]
    assert request.values(b"x-key") == [SECRET.encode()]
    denied = {"payload": "x", "content_type": "text/html"}
    shown = api.ask("POST", "/presets/event/preview", denied).json
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
def test_all_that_is_wrong_is_said_at_once(api: Api, preset: str, sent: dict[str, Any], pointers: set[str]) -> None:
    """By pointers into what was sent, and never with the value."""
    said = api.ask("POST", f"/presets/{preset}/preview", sent)
    assert (said.status, said.code, said.pointers) == (422, "invalid", pointers)
    assert b"too long" not in said.body
    assert b"../" not in said.body


def test_a_preset_that_does_not_fit_its_integration_says_so(api: Api) -> None:
    shown = api.ask("POST", "/presets/outside/preview", {"payload": ""}).json
    assert (shown["request"], shown["code"]) == (None, "credential_unavailable")
    assert shown["reason"].startswith("must be allowed by integration crm")


def test_a_draft_is_previewed_and_sent_without_being_there(api: Api, running: Running) -> None:
    """By the integration's own credential; nobody can use it, and no series names it."""
    body = {"json": {"n": "{{n}}", "s": "<{{n}}>"}}
    document = running.document(id="not-yet", method="PATCH", parameters={"n": {"type": "number"}}, body=body)
    sent = {**document, "sample": {"parameters": {"n": 1.5}}}
    shown = api.ask("POST", "/drafts/preset/preview", sent).json
    assert (shown["preset"], shown["integration"], shown["code"]) == ("not-yet", "crm", None)
    said = fresh(api, "drafter").ask("POST", "/drafts/preset/test", sent)
    result = said.json
    assert (result["ok"], result["status"], result["request"]) == (True, 200, "POST /p/draft")
    assert result["note"] == "this was a real request: the upstream may have acted on it"
    assert SECRET.encode() not in said.body
    request = running.last()
    assert (request.method, request.target, request.body) == (b"PATCH", b"/api/hook", b'{"n":1.5,"s":"<1.5>"}')
    assert request.values(b"authorization") == [AUTHORIZATION]
    assert api.ask("POST", "/presets/not-yet/preview", {}).code == "not_found"
    assert "id" not in (unnamed := {key: value for key, value in document.items() if key != "id"})
    assert api.ask("POST", "/drafts/preset/preview", unnamed).json["preset"] is None


def test_a_draft_without_a_sample_is_shown_with_examples(api: Api, running: Running) -> None:
    parameters = {
        "who": {"type": "text", "max_length": 2},
        "n": {"type": "number"},
        "one": {"type": "text", "enum": ["b", "c"]},
        "kept": {"type": "text", "default": "d"},
        "on": {"type": "boolean"},
        "shown": {"type": "number", "default": 1, "example": 2},
    }
    draft = running.document(parameters=parameters, body={"json": {name: f"{{{{{name}}}}}" for name in parameters}})
    shown = api.ask("POST", "/drafts/preset/preview", draft).json["request"]["body"]
    examples = {"who": "wh", "n": 1.5, "one": "b", "kept": "d", "on": True, "shown": 2}
    assert json.loads(shown) == examples
    for keys, payload in (({}, '{"event": "example"}'), ({"content_type": "text/plain"}, "example")):
        draft = running.document(**keys)
        assert api.ask("POST", "/drafts/preset/preview", draft).json["request"]["body"] == payload
    assert api.ask("POST", "/drafts/preset/preview", {"body": {}, "parameters": 7}).code == "invalid"


def test_a_draft_and_its_sample_are_taken_as_yaml(api: Api, running: Running) -> None:
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
    said = api.ask("POST", "/drafts/preset/preview", good, headers=as_yaml)
    assert said.json["request"]["body"] == '{"n":7}'
    said = api.ask("POST", "/drafts/preset/preview", text.encode(), headers=as_yaml)
    (error,) = said.json["errors"]
    assert (error["pointer"], error["line"], error["column"]) == ("/sample/parameters/n", 12, 8)


def test_a_draft_says_all_that_is_wrong_with_it_and_with_what_is_sent(api: Api, running: Running) -> None:
    """The document's errors by the places in it, and what can be known of the parameters."""
    document = running.document(
        id="No ID",
        method="HEAD",
        headers={"Host": "x", "X-A": "{{nothing}}"},
        parameters={"n": {"type": "number", "max_length": 3}},
        body={"json": {"a": {"b": "{{no}}"}}},
    )
    sent = {**document, "sample": {"parameters": [], "more": 1}}
    for trial in ("preview", "test"):
        said = api.ask("POST", f"/drafts/preset/{trial}", sent)
        assert (said.status, said.code) == (422, "invalid")
        assert said.pointers >= {"/id", "/method", "/headers/Host", "/sample/parameters", "/sample/more"}
        assert said.pointers >= {"/parameters/n/max_length", "/body/json/a/b"}
    whole = running.document(integration="nobody", parameters={"n": {"type": "number"}}, body={"json": {"a": "{{n}}"}})
    said = api.ask("POST", "/drafts/preset/preview", {**whole, "sample": {"parameters": {"n": "x"}}})
    assert said.pointers == {"/integration", "/sample/parameters/n"}
    assert api.ask("POST", "/drafts/preset/preview", {**whole, "sample": []}).pointers == {"/sample"}


def test_a_draft_goes_by_an_integration_that_can_be_used(api: Api, running: Running) -> None:
    """And within its policy: nothing is sent otherwise."""
    before = arrived(running)
    tester = fresh(api, "unusable")
    base = f"http://127.0.0.1:{running.upstream.port}"
    cases = [
        (running.document(integration="missing", url=f"{base}/missing/x"), "/integration"),
        (running.document(url=f"{base}/elsewhere"), "/url"),
        (running.document(headers={"Authorization": "x"}), "/headers/Authorization"),
    ]
    for document, where in cases:
        for trial in ("preview", "test"):
            said = tester.ask("POST", f"/drafts/preset/{trial}", document)
            assert (said.code, said.pointers) == ("invalid", {where})
    assert arrived(running) == before


def test_test_with_a_stored_credential_is_not_sent_while_the_audit_cannot_list_it(tmp_path: Path) -> None:
    """Of an integration and of the draft of a preset: 503, and nothing arrives; each works once the store is back."""
    with recording() as upstream, managed(tmp_path, more=config(upstream.port)) as child:
        running, api = Running(child.admin_port, upstream), Api(child.admin_port)
        prefix = f"http://127.0.0.1:{upstream.port}/api"
        integration = {"endpoint_prefix": prefix, "auth": {"type": "basic", "username": {"value": "svc"}}}
        api.make("/integrations", {"id": "stored", **integration, "test": {"path": "/x"}})
        tests = [
            (fresh(api, "first"), "/integrations/stored/test", None),
            (fresh(api, "second"), "/drafts/preset/test", running.document(id="later")),
        ]
        (tmp_path / "store.db").rename(tmp_path / "away.db")
        (tmp_path / "store.db").mkdir()
        for tester, path, body in tests:
            said = tester.ask("POST", path, body)
            assert (path, said.status, said.code) == (path, 503, "store_unavailable")
        assert arrived(running) == 0
        (tmp_path / "store.db").rmdir()
        (tmp_path / "away.db").rename(tmp_path / "store.db")
        for tester, path, body in tests:
            # Less than a second may have passed since.
            within(lambda tester=tester, path=path, body=body: tester.ask("POST", path, body).status == 200)
        listed = [each["outcome"] for each in api.get("/audit")["items"] if each["action"] == "test"]
        assert listed == ["ok"] * 2
        assert arrived(running) == 2


def test_tests_are_paced_and_in_the_audit(api: Api, running: Running) -> None:
    """As those of integrations are, with the ID that the preset is to have."""
    draft, testers = running.document(id="later"), ["paced", "other"]
    for name in testers:
        tester = fresh(api, name)
        assert tester.ask("POST", "/drafts/preset/test", draft).status == 200
        again = tester.ask("POST", "/drafts/preset/test", draft)
        assert (again.code, again.headers["Retry-After"]) == ("too_many", "1")
    found = [each for each in api.get("/audit")["items"] if each["action"] == "test" and each["who"] in testers]
    assert [(each["who"], each["object"], each["name"], each["outcome"]) for each in found] == [
        ("other", "preset", "later", "ok"),
        ("paced", "preset", "later", "ok"),
    ]
