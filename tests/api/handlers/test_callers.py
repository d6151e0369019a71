"""`/callers`: a caller's token is shown once, and admits the caller to its integrations and presets."""

from __future__ import annotations

from collections.abc import Callable

from support.api import Api, ApiSetup, basic, rewritten
from support.http_get import get, wait_until

Named = Callable[[str], str]


def status(running: ApiSetup, integration: str, token: str) -> int:
    """Return the status of a request with this caller's token."""
    return get(running.child.proxy_port, f"/i/{integration}/x", {"Sidekey-Token": token}).status


def test_caller_may_use_its_integrations_at_once(api: Api, running: ApiSetup, named: Named) -> None:
    """Only the response to the creation of a caller contains its token. Its integrations may be created later."""
    name, first, second = named("billing"), named("first"), named("second")
    response = api.request("POST", "/callers", {"name": name, "integrations": [first]})
    assert (response.status, response.etag, response.headers["Location"]) == (201, '"1"', f"/api/v1/callers/{name}")
    token = response.json["token"]
    assert token.startswith("sidekey_")
    assert len(token) == len("sidekey_") + 43
    for integration in (first, second):
        api.create("/integrations", {"id": integration, **basic(running.upstream)})
    assert [status(running, integration, token) for integration in (first, second)] == [200, 403]
    shown = api.get(f"/callers/{name}")
    assert "token" not in shown
    assert (shown["integrations"], shown["source"], shown["updated_by"]) == ([first], "store", "admin-of-file")
    changed = api.request("PUT", f"/callers/{name}", {**shown, "integrations": "*"}, match='"1"')
    assert (changed.status, changed.json["integrations"], changed.etag) == (200, "*", '"2"')
    assert status(running, second, token) == 200
    changed = api.request("PATCH", f"/callers/{name}", {"integrations": [second]}, match='"2"')
    assert [status(running, integration, token) for integration in (first, second)] == [403, 200]
    assert api.request("DELETE", f"/callers/{name}", match='"3"').status == 204
    assert status(running, second, token) == 401
    assert api.request("GET", f"/callers/{name}").code == "not_found"


def test_caller_of_a_file_is_read_only(api: Api) -> None:
    """No stored caller can have its name."""
    assert api.get("/callers/of-a-file")["source"] == "file"
    for method, body in (("PUT", {"integrations": []}), ("PATCH", {}), ("DELETE", None)):
        assert api.request(method, "/callers/of-a-file", body, match='"1"').code == "read_only"
    assert api.request("POST", "/callers", {"name": "of-a-file"}).code == "exists"


def test_all_errors_of_a_caller_are_reported(api: Api, named: Named) -> None:
    """A caller without `integrations` may use none."""
    name = named("wrong")
    response = api.request("POST", "/callers", {"name": name, "integrations": ["ok", "Not", 7], "token": "mine"})
    assert response.pointers == {"/token", "/integrations/1", "/integrations/2"}
    assert api.request("POST", "/callers", {"integrations": ["Not"]}).pointers == {"/name", "/integrations/0"}
    for wrong in ("all", {}, None, 7):
        assert api.request("POST", "/callers", {"name": name, "integrations": wrong}).pointers == {"/integrations"}
    assert api.create("/callers", {"name": name})["integrations"] == []
    assert api.request("PUT", f"/callers/{name}", {}, match='"1"').pointers == {"/integrations"}
    response = api.request("PUT", f"/callers/{name}", {"name": "other", "integrations": 7}, match='"1"')
    assert response.pointers == {"/name", "/integrations"}
    assert api.request("PATCH", f"/callers/{name}", {}, match='"1"').etag == '"1"'


def test_caller_may_list_presets_only(api: Api, named: Named) -> None:
    """The presets of a caller are validated and shown like its integrations. They may be created later."""
    name = named("presets")
    created = api.create("/callers", {"name": name, "presets": ["later", "later", "hook-of-a-file"]})
    assert (created["integrations"], created["presets"]) == ([], ["later", "hook-of-a-file"])
    entries = api.get("/audit")["items"]
    assert next(entry["fields"] for entry in entries if entry["name"] == name) == ["/integrations", "/presets", "token"]
    response = api.request("PATCH", f"/callers/{name}", {"integrations": ["crm"]}, match='"1"')
    assert (response.json["integrations"], response.json["presets"]) == (["crm"], ["later", "hook-of-a-file"])
    response = api.request("PATCH", f"/callers/{name}", {"presets": "*"}, match='"2"')
    assert (response.json["presets"], response.etag) == ("*", '"3"')
    assert api.request("PATCH", f"/callers/{name}", {"presets": "*"}, match='"3"').etag == '"3"'
    # PUT replaces all permissions: a caller may not use omitted presets.
    assert api.request("PUT", f"/callers/{name}", {"integrations": ["crm"]}, match='"3"').json["presets"] == []
    wrong = {"integrations": ["ok"], "presets": ["ok", "Not", 7]}
    assert api.request("PUT", f"/callers/{name}", wrong, match='"4"').pointers == {"/presets/1", "/presets/2"}
    for presets in ("all", {}, 7):
        assert api.request("PATCH", f"/callers/{name}", {"presets": presets}, match='"4"').pointers == {"/presets"}
    # null removes a key (RFC 7396).
    api.request("PATCH", f"/callers/{name}", {"presets": "*"}, match='"4"')
    assert api.request("PATCH", f"/callers/{name}", {"presets": None}, match='"5"').json["presets"] == []
    assert api.request("PATCH", f"/callers/{name}", {"integrations": None}, match='"6"').pointers == {"/integrations"}
    assert api.get("/callers/of-a-file")["presets"] == ["hook-of-a-file"]


def test_callers_are_listed_by_name(api: Api, named: Named) -> None:
    """The list has callers of files and of the store, in pages."""
    name = named("listed")
    api.create("/callers", {"name": name})
    items = api.get("/callers")["items"]
    assert {"of-a-file", name} <= {item["name"] for item in items}
    assert not any("token" in item for item in items)
    assert api.get("/callers?after=zzz:file") == {"items": [], "next": None}
    assert api.request("GET", "/callers?after=zzz").code == "malformed"


def test_stored_caller_with_the_name_of_one_in_a_file_can_be_deleted(api: Api, running: ApiSetup, named: Named) -> None:
    """The stored caller admits nobody. The list shows both callers."""
    name, child = named("both"), running.child
    token = api.create("/callers", {"name": name, "integrations": "*"})["token"]
    assert status(running, "of-a-file", token) != 401
    written = child.config.read_text()
    stanza = (
        f"callers:\n  {name}: {{token: {{insecure_value: another-token-of-a-file}}, integrations: []}}\n  of-a-file:"
    )
    with rewritten(child, written.replace("callers: {of-a-file:", stanza).replace('"*"}}', '"*"}')):
        wait_until(lambda: api.get(f"/callers/{name}")["status"] == "unusable")
        assert status(running, "of-a-file", token) == 401
        items = [item for item in api.get("/callers")["items"] if item["name"] == name]
        assert [(item["source"], item["status"]) for item in items] == [("file", "ok"), ("store", "unusable")]
        assert items[1]["problem"].startswith("a config file has the same caller name")
        response = api.request("PUT", f"/callers/{name}", {"integrations": ["of-a-file"]}, match='"1"')
        assert (response.status, response.json["status"], response.json["version"]) == (200, "unusable", 2)
        assert api.request("POST", "/callers", {"name": name}).code == "exists"
        assert api.request("DELETE", f"/callers/{name}", match='"2"').status == 204
        assert api.get(f"/callers/{name}")["source"] == "file"
        assert api.request("DELETE", f"/callers/{name}", match='"2"').code == "read_only"
    wait_until(lambda: api.request("GET", f"/callers/{name}").status == 404)


def test_put_creates_a_caller_with_a_token(api: Api, running: ApiSetup, named: Named) -> None:
    """A PUT without changes makes no version."""
    name = named("put")
    create, document = {"If-None-Match": "*"}, {"integrations": "*"}
    assert api.request("PUT", f"/callers/{name}", document, match="*").code == "changed"
    created = api.request("PUT", f"/callers/{name}", document, headers=create)
    assert (created.status, created.etag, created.headers["Location"]) == (201, '"1"', f"/api/v1/callers/{name}")
    assert status(running, "of-a-file", created.json["token"]) != 401
    assert api.request("PUT", f"/callers/{name}", document, headers=create).code == "changed"
    assert api.request("PUT", "/callers/of-a-file", document, headers=create).code == "changed"
    same = api.request("PUT", f"/callers/{name}", document, match="*")
    assert (same.status, same.etag, "token" in same.json) == (200, '"1"', False)


def test_rotated_token_replaces_the_previous_one_at_once(api: Api, running: ApiSetup, named: Named) -> None:
    name = named("rotated")
    created = api.create("/callers", {"name": name, "presets": ["hook-of-a-file"]})
    path, sent = f"/callers/{name}/rotate", {"own_token": api.token}
    assert status(running, "of-a-file", created["token"]) == 403
    assert api.request("POST", path, sent).code == "precondition_required"
    assert api.request("POST", path, sent, match='"2"').code == "changed"
    assert api.request("POST", path, {}, match='"1"').pointers == {"/own_token"}
    assert api.request("POST", path, {"own_token": created["token"]}, match='"1"').code == "forbidden"
    assert status(running, "of-a-file", created["token"]) == 403
    response = api.request("POST", path, sent, match='"1"')
    assert (response.status, response.etag, response.json["presets"]) == (200, '"2"', ["hook-of-a-file"])
    assert status(running, "of-a-file", response.json["token"]) == 403
    assert status(running, "of-a-file", created["token"]) == 401
    assert "token" not in api.get(f"/callers/{name}")
    entry = api.get(f"/audit?name={name}")["items"][0]
    assert (entry["action"], entry["fields"], entry["outcome"]) == ("rotate", ["token"], "ok")
    assert api.request("POST", "/callers/of-a-file/rotate", sent, match='"1"').code == "read_only"
    assert api.request("POST", "/callers/nobody/rotate", sent, match='"1"').code == "not_found"
