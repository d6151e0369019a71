"""api/handlers/presets.py: what operators send, and what is stored, used and shown of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from support.api import Api, Running, basic
from support.raw_connection import DEADLINE

Named = Callable[[str], str]


@pytest.fixture
def crm(editor: Api, running: Running, named: Named) -> str:
    """The ID of an integration that may send to the upstream."""
    name = named("crm")
    editor.make("/integrations", {"id": name, **basic(running.upstream)})
    return name


def document(integration: str, running: Running, **more: Any) -> dict[str, Any]:
    """A preset of it, of a payload."""
    url = f"http://127.0.0.1:{running.upstream}/v1/x"
    return {"integration": integration, "url": url, **more}


def send(running: Running, name: str, token: str, body: str = "{}") -> tuple[int, str]:
    """The status, and what arrived at the upstream or why nothing did, of a caller's request by a preset."""
    with closing(HTTPConnection("127.0.0.1", running.child.proxy_port, timeout=DEADLINE)) as connection:
        fields = {"Sidekey-Token": token, "Content-Type": "application/json"}
        connection.request("POST", f"/p/{name}", body, fields)
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_what_is_made_is_used_at_once_and_reads_as_it_was_sent(
    api: Api, editor: Api, viewer: Api, running: Running, named: Named, crm: str
) -> None:
    """201 with ETag and Location; keys of a body stay in their order, which is that in which they are sent."""
    name = named("hook")
    parameters = {"user": {"type": "text", "max_length": 20}}
    sent = document(crm, running, parameters=parameters, body={"json": {"z": "{{user}}", "a": [1, 1.5, True, None]}})
    said = editor.ask("POST", "/presets", {"id": name, **sent})
    assert (said.status, said.etag, said.headers["Location"]) == (201, '"1"', f"/api/v1/presets/{name}")
    shown = said.json
    assert shown == viewer.get(f"/presets/{name}")
    assert {key: shown[key] for key in sent} == sent
    assert list(shown["body"]["json"]) == ["z", "a"]
    assert (shown["source"], shown["status"], shown["problem"], shown["version"]) == ("store", "ok", None, 1)
    assert shown["updated_by"] == "editor-of-file"
    token = api.make("/callers", {"name": named("caller"), "presets": [name]})["token"]
    assert send(running, name, token, '{"user": "x"}')[0] == 200
    assert send(running, name, token, '{"user": 7}')[0] == 422
    nobody = api.make("/callers", {"name": named("caller"), "integrations": [crm]})["token"]
    assert send(running, name, nobody)[0] == 403


def test_what_was_read_is_edited_and_sent_back(editor: Api, running: Running, named: Named, crm: str) -> None:
    """By PUT what is left out is removed, by PATCH it stays; the order of keys and the type of a value are changes."""
    name = named("edit")
    shown = editor.make(
        "/presets", {"id": name, **document(crm, running, description="d", body={"json": {"a": 1, "b": 2}})}
    )
    assert editor.ask("PUT", f"/presets/{name}", shown, match='"1"').etag == '"1"'
    said = editor.ask("PUT", f"/presets/{name}", {**shown, "body": {"json": {"b": 2, "a": 1}}}, match='"1"')
    assert (said.etag, list(said.json["body"]["json"])) == ('"2"', ["b", "a"])
    said = editor.ask("PUT", f"/presets/{name}", {**shown, "body": {"json": {"b": 2, "a": True}}}, match='"2"')
    assert (said.etag, said.json["body"]["json"]["a"]) == ('"3"', True)
    del shown["description"]
    said = editor.ask("PUT", f"/presets/{name}", shown, match='"3"')
    assert "description" not in said.json
    patch = {"tags": ["x"], "headers": {"X-A": "b"}, "body": {"json": {"a": {"set": True}}}}
    said = editor.ask("PATCH", f"/presets/{name}", patch, match='"4"')
    assert (said.json["tags"], said.json["body"]) == (["x"], {"json": {"a": {"set": True}, "b": 2}})
    said = editor.ask("PATCH", f"/presets/{name}", {"tags": None, "body": {"json": {"a": {"more": 1}}}}, match='"5"')
    # What reads as a stored secret elsewhere is a value like any other here.
    assert ("tags" in said.json, said.json["body"]["json"]["a"]) == (False, {"set": True, "more": 1})
    assert editor.ask("PATCH", f"/presets/{name}", {"id": "other"}, match='"6"').pointers == {"/id"}
    assert editor.ask("PATCH", f"/presets/{name}", {"tags": []}, match='"5"').code == "changed"
    assert editor.ask("DELETE", f"/presets/{name}").code == "precondition_required"
    assert editor.ask("DELETE", f"/presets/{name}", match='"6"').status == 204
    assert editor.ask("GET", f"/presets/{name}").code == "not_found"
    assert editor.ask("PUT", f"/presets/{name}", shown, match='"6"').code == "not_found"


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
def test_what_is_wrong_is_said_at_once_by_pointers(
    name: str, editor: Api, running: Running, named: Named, crm: str
) -> None:
    """And nothing is saved."""
    keys, pointers = WRONG[name]
    said = editor.ask("POST", "/presets", {**document(crm, running), "id": "Not an ID", **keys})
    assert (said.status, said.code, said.pointers) == (422, "invalid", {"/id", *pointers})
    assert editor.ask("POST", "/presets", {**document(crm, running), "id": named("wrong"), **keys}).pointers == pointers


def test_an_integration_that_cannot_be_used_cannot_be_chosen(
    editor: Api, running: Running, named: Named, crm: str
) -> None:
    """Neither one that is not there; one of a file may be."""
    name = named("choice")
    assert editor.ask("POST", "/presets", {"id": name, **document("nobody", running)}).pointers == {"/integration"}
    url = "http://127.0.0.1:1/v1/hook"
    said = editor.ask("POST", "/presets", {"id": name, **document("without-a-secret", running), "url": url})
    assert (said.pointers, "cannot be used now" in said.json["errors"][0]["detail"]) == ({"/integration"}, True)
    made = editor.make("/presets", {"id": name, **document("of-a-file", running), "url": url})
    assert made["status"] == "ok"
    # Sent back with another integration it is judged by that.
    said = editor.ask("PATCH", f"/presets/{name}", {"integration": crm}, match='"1"')
    assert said.pointers == {"/url"}


def test_a_preset_of_a_file_is_shown_whole_and_read_only(editor: Api, viewer: Api) -> None:
    """It has no secret; where it does not belong to its integration, that is its status."""
    shown = viewer.get("/presets/hook-of-a-file")
    assert (shown["source"], shown["version"], shown["status"]) == ("file", None, "ok")
    assert shown["body"] == {"json": {"text": "Hello {{user}}", "n": 1.5}}
    assert shown["parameters"] == {"user": {"type": "text"}}
    for method, body in (("PUT", {}), ("PATCH", {}), ("DELETE", None)):
        assert editor.ask(method, "/presets/hook-of-a-file", body, match='"1"').code == "read_only"
    assert editor.ask("POST", "/presets", {**shown, "integration": "of-a-file"}).code == "exists"
    outside = viewer.get("/presets/outside-of-a-file")
    assert outside["status"] == "unusable"
    assert "must be allowed by integration of-a-file" in outside["problem"]


def test_presets_are_found_by_what_they_say(editor: Api, viewer: Api, running: Running, named: Named, crm: str) -> None:
    """A text in ID, description, integration or tags; a tag, an integration, a status."""
    first, second, tag = named("find"), named("find"), named("tag")
    editor.make("/presets", {"id": first, **document(crm, running, description="An Event", tags=[tag])})
    text = {"text": "x", "content_type": "text/plain"}
    editor.make("/presets", {"id": second, **document(crm, running, title="Welcome message", tags=[tag], body=text)})

    def found(query: str) -> set[str]:
        return {each["id"] for each in viewer.get(f"/presets?{query}")["items"]}

    assert found(f"integration={crm}") == found(f"tag={tag}") == {first, second}
    assert found(f"q={crm.upper()}") == {first, second}
    assert found(f"q=an+event&integration={crm}") == {first}
    assert found(f"q={second}") == found(f"q=MESSAGE+{tag}+welcome") == {second}
    assert "outside-of-a-file" in found("status=unusable")
    assert first not in found("status=unusable")
    (item,) = viewer.get(f"/presets?q={first}")["items"]
    assert (item["method"], item["url"], item["integration"]) == ("POST", document(crm, running)["url"], crm)
    assert "body" not in item
    assert (item["title"], item["takes"]) == ("", "payload")
    (item,) = viewer.get(f"/presets?q={second}")["items"]
    assert (item["title"], item["takes"]) == ("Welcome message", "parameters")
    assert editor.ask("GET", "/presets?status=sealed").code == "malformed"
    page = viewer.get(f"/presets?integration={crm}&after={first}:store")
    assert [each["id"] for each in page["items"]] == [name for name in (second,) if name > first]
