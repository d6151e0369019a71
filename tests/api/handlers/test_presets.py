"""`/presets`: create, read, change, delete and list presets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from support.api import Api, ApiSetup, basic
from support.raw_connection import DEADLINE

Named = Callable[[str], str]


@pytest.fixture
def crm(editor: Api, running: ApiSetup, named: Named) -> str:
    """Create an integration for the upstream, and return its ID."""
    name = named("crm")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    return name


def document(integration: str, running: ApiSetup, **more: Any) -> dict[str, Any]:
    """Build a preset of this integration that takes a payload."""
    url = f"http://127.0.0.1:{running.upstream}/v1/x"
    return {"integration": integration, "url": url, **more}


def send(running: ApiSetup, name: str, token: str, body: str = "{}") -> tuple[int, str]:
    """Send a preset as a caller. Return the status and the body of the response."""
    with closing(HTTPConnection("127.0.0.1", running.child.proxy_port, timeout=DEADLINE)) as connection:
        fields = {"Sidekey-Token": token, "Content-Type": "application/json"}
        connection.request("POST", f"/p/{name}", body, fields)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_new_preset_is_used_at_once_and_shown_unchanged(
    api: Api, editor: Api, viewer: Api, running: ApiSetup, named: Named, crm: str
) -> None:
    """The response is 201 with ETag and Location. The keys of a body keep their order."""
    name = named("hook")
    parameters = {"user": {"type": "text", "max_length": 20}}
    sent = document(crm, running, parameters=parameters, body={"json": {"z": "{{user}}", "a": [1, 1.5, True, None]}})
    response = editor.request("POST", "/presets", {"id": name, **sent})
    assert (response.status, response.etag, response.headers["Location"]) == (201, '"1"', f"/api/v1/presets/{name}")
    shown = response.json
    assert shown == viewer.get(f"/presets/{name}")
    assert {key: shown[key] for key in sent} == sent
    assert list(shown["body"]["json"]) == ["z", "a"]
    assert (shown["source"], shown["status"], shown["problem"], shown["version"]) == ("store", "ok", None, 1)
    assert shown["updated_by"] == "editor-of-file"
    token = api.create("/callers", {"name": named("caller"), "presets": [name]})["token"]
    assert send(running, name, token, '{"user": "x"}')[0] == 200
    assert send(running, name, token, '{"user": 7}')[0] == 422
    nobody = api.create("/callers", {"name": named("caller"), "integrations": [crm]})["token"]
    assert send(running, name, nobody)[0] == 403


def test_put_removes_omitted_keys_and_patch_keeps_them(editor: Api, running: ApiSetup, named: Named, crm: str) -> None:
    """A new order of keys, or a new type of a value, is a change."""
    name = named("edit")
    shown = editor.create(
        "/presets", {"id": name, **document(crm, running, description="d", body={"json": {"a": 1, "b": 2}})}
    )
    assert editor.request("PUT", f"/presets/{name}", shown, match='"1"').etag == '"1"'
    response = editor.request("PUT", f"/presets/{name}", {**shown, "body": {"json": {"b": 2, "a": 1}}}, match='"1"')
    assert (response.etag, list(response.json["body"]["json"])) == ('"2"', ["b", "a"])
    response = editor.request("PUT", f"/presets/{name}", {**shown, "body": {"json": {"b": 2, "a": True}}}, match='"2"')
    assert (response.etag, response.json["body"]["json"]["a"]) == ('"3"', True)
    del shown["description"]
    response = editor.request("PUT", f"/presets/{name}", shown, match='"3"')
    assert "description" not in response.json
    patch = {"tags": ["x"], "headers": {"X-A": "b"}, "body": {"json": {"a": {"set": True}}}}
    response = editor.request("PATCH", f"/presets/{name}", patch, match='"4"')
    assert (response.json["tags"], response.json["body"]) == (["x"], {"json": {"a": {"set": True}, "b": 2}})
    response = editor.request(
        "PATCH", f"/presets/{name}", {"tags": None, "body": {"json": {"a": {"more": 1}}}}, match='"5"'
    )
    # `{set: true}` is a stored secret in an integration, and a plain value in a preset.
    assert ("tags" in response.json, response.json["body"]["json"]["a"]) == (False, {"set": True, "more": 1})
    assert editor.request("PATCH", f"/presets/{name}", {"id": "other"}, match='"6"').pointers == {"/id"}
    assert editor.request("DELETE", f"/presets/{name}", match='"6"').status == 204
    assert editor.request("GET", f"/presets/{name}").code == "not_found"
    assert editor.request("PUT", f"/presets/{name}", shown, match='"6"').code == "not_found"


WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "outside": ({"url": "http://127.0.0.1:1/other"}, {"/url"}),
    "authority": (
        {"url": "http://{{host}}/v1", "parameters": {"host": {"type": "text"}}, "body": {"json": {}}},
        {"/url"},
    ),
    "method": ({"method": "HEAD"}, {"/method"}),
    "header of the credential": ({"headers": {"authorization": "x"}}, {"/headers/authorization"}),
    "header of framing": ({"headers": {"Host": "x"}}, {"/headers/Host"}),
    "key": ({"body": {"json": {"{{a}}": 1}}}, {"/body/json/{{a}}"}),
    "unknown name": ({"body": {"json": {"a": ["{{nothing}}"]}}}, {"/body/json/a/0"}),
    "two bodies": ({"body": {"json": 1, "form": {}}}, {"/body"}),
    "type of JSON": (
        {"content_type": "text/x", "body": {"json": 1, "content_type": "text/x"}},
        {"/content_type", "/body/content_type"},
    ),
    "XML": ({"body": {"text": "<a>", "content_type": "application/xml"}}, {"/body/text"}),
    "parameters without a body": ({"parameters": {"a": {"type": "text"}}}, {"/parameters"}),
    "more keys": ({"more": 1, "tags": ["x" * 101]}, {"/more", "/tags"}),
    "types": ({"method": 7, "headers": [], "description": None}, {"/method", "/headers", "/description"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_response_has_all_errors_as_pointers(name: str, editor: Api, running: ApiSetup, named: Named, crm: str) -> None:
    """Sidekey saves nothing."""
    keys, pointers = WRONG[name]
    response = editor.request("POST", "/presets", {**document(crm, running), "id": "Not an ID", **keys})
    assert (response.status, response.code, response.pointers) == (422, "invalid", {"/id", *pointers})
    assert (
        editor.request("POST", "/presets", {**document(crm, running), "id": named("wrong"), **keys}).pointers
        == pointers
    )


def test_preset_needs_a_usable_integration(editor: Api, running: ApiSetup, named: Named, crm: str) -> None:
    """The integration may be in a file or in the store."""
    name = named("choice")
    assert editor.request("POST", "/presets", {"id": name, **document("nobody", running)}).pointers == {"/integration"}
    url = "http://127.0.0.1:1/v1/hook"
    response = editor.request("POST", "/presets", {"id": name, **document("without-a-secret", running), "url": url})
    assert (response.pointers, "cannot be used now" in response.json["errors"][0]["detail"]) == ({"/integration"}, True)
    created = editor.create("/presets", {"id": name, **document("of-a-file", running), "url": url})
    assert created["status"] == "ok"
    # The new integration decides which URLs are allowed.
    response = editor.request("PATCH", f"/presets/{name}", {"integration": crm}, match='"1"')
    assert response.pointers == {"/url"}


def test_preset_of_a_file_is_shown_completely_and_read_only(editor: Api, viewer: Api) -> None:
    """A preset that its integration does not allow is unusable."""
    shown = viewer.get("/presets/hook-of-a-file")
    assert (shown["source"], shown["version"], shown["status"]) == ("file", None, "ok")
    assert shown["body"] == {"json": {"text": "Hello {{user}}", "n": 1.5}}
    assert shown["parameters"] == {"user": {"type": "text"}}
    for method, body in (("PUT", {}), ("PATCH", {}), ("DELETE", None)):
        assert editor.request(method, "/presets/hook-of-a-file", body, match='"1"').code == "read_only"
    assert editor.request("POST", "/presets", {**shown, "integration": "of-a-file"}).code == "exists"
    outside = viewer.get("/presets/outside-of-a-file")
    assert outside["status"] == "unusable"
    assert "must be allowed by integration of-a-file" in outside["problem"]


def test_list_is_searched_and_filtered(editor: Api, viewer: Api, running: ApiSetup, named: Named, crm: str) -> None:
    """Search covers ID, title, description, integration and tags."""
    first, second, tag = named("find"), named("find"), named("tag")
    editor.create("/presets", {"id": first, **document(crm, running, description="An Event", tags=[tag])})
    text = {"text": "x", "content_type": "text/plain"}
    editor.create("/presets", {"id": second, **document(crm, running, title="Welcome message", tags=[tag], body=text)})

    def ids_of(query: str) -> set[str]:
        return {item["id"] for item in viewer.get(f"/presets?{query}")["items"]}

    assert ids_of(f"integration={crm}") == ids_of(f"tag={tag}") == {first, second}
    assert ids_of(f"q={crm.upper()}") == {first, second}
    assert ids_of(f"q=an+event&integration={crm}") == {first}
    assert ids_of(f"q={second}") == ids_of(f"q=MESSAGE+{tag}+welcome") == {second}
    assert "outside-of-a-file" in ids_of("status=unusable")
    assert first not in ids_of("status=unusable")
    (item,) = viewer.get(f"/presets?q={first}")["items"]
    assert (item["method"], item["url"], item["integration"]) == ("POST", document(crm, running)["url"], crm)
    assert "body" not in item
    assert (item["title"], item["takes"]) == ("", "payload")
    (item,) = viewer.get(f"/presets?q={second}")["items"]
    assert (item["title"], item["takes"]) == ("Welcome message", "parameters")
    assert editor.request("GET", "/presets?status=sealed").code == "malformed"
    page = viewer.get(f"/presets?integration={crm}&after={first}:store")
    assert [item["id"] for item in page["items"]] == [name for name in (second,) if name > first]
