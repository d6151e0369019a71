"""api/collection.py: integrations and presets are read and changed in the same way."""

from __future__ import annotations

import pytest

from support.api import Api, ApiSetup, basic, rewritten
from support.http_get import wait_until


def documents(running: ApiSetup) -> dict[str, dict[str, object]]:
    """Build a valid document of each collection, by path."""
    return {
        "/integrations": basic(running.upstream),
        "/presets": {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x", "content_type": "text/plain"},
    }


@pytest.mark.parametrize("path", ["/integrations", "/presets"])
def test_put_creates_only_a_missing_resource(path: str, api: Api, running: ApiSetup) -> None:
    """RFC 9110 13.1.2. `If-Match: *` changes only an existing resource (13.1.1)."""
    name = f"put-{path[1:]}"
    # Other tests may have used up the shared operators' audit limit of refused changes.
    created = api.create("/tokens", {"name": f"by-{name}", "role": "editor", "own_token": api.token})
    editor = api.by(created["token"])
    document = documents(running)[path]
    resource = f"{path}/{name}"
    create = {"If-None-Match": "*"}
    response = editor.request("PUT", resource, document, match="*")
    assert (response.status, response.code) == (412, "changed")
    assert editor.request("PUT", resource, document).code == "precondition_required"
    response = editor.request("PUT", resource, {"id": "other", **document}, headers=create)
    assert (response.code, response.pointers) == ("invalid", {"/id"})
    response = editor.request("PUT", resource, document, headers=create)
    assert (response.status, response.headers["Location"], response.etag) == (201, f"/api/v1{resource}", '"1"')
    response = editor.request("PUT", resource, document, headers=create)
    assert (response.status, response.code) == (412, "changed")
    assert editor.request("PUT", f"{path}/no*name", document, headers=create).pointers == {"/id"}
    described = {"description": "x"}
    assert editor.request("PATCH", resource, described, match="*").etag == '"2"'
    assert editor.request("PATCH", resource, {"description": "y"}, match='"1", "2"').etag == '"3"'
    for method, headers in (("PATCH", create), ("DELETE", create), ("PUT", create | {"If-Match": "*"})):
        assert (
            editor.request(method, resource, None if method == "DELETE" else described, headers=headers).code
            == "malformed"
        )
    assert editor.request("PUT", resource, document, headers={"If-None-Match": '"7"'}).code == "malformed"
    assert editor.request("DELETE", resource, match="*").status == 204
    assert editor.request("DELETE", resource, match="*").code == "changed"
    items = [(item["action"], item["outcome"]) for item in api.get("/audit")["items"] if item["name"] == name]
    assert items == [
        ("delete", "changed"),
        ("delete", "ok"),
        ("update", "ok"),
        ("update", "ok"),
        ("create", "changed"),
        ("create", "ok"),
        ("update", "changed"),
    ]


@pytest.mark.parametrize("path", ["/integrations", "/presets"])
def test_put_does_not_create_a_resource_of_a_file(path: str, editor: Api, running: ApiSetup) -> None:
    name = {"/integrations": "of-a-file", "/presets": "hook-of-a-file"}[path]
    response = editor.request("PUT", f"{path}/{name}", documents(running)[path], headers={"If-None-Match": "*"})
    assert (response.status, response.code) == (412, "changed")
    assert editor.request("PUT", f"{path}/{name}", documents(running)[path], match="*").code == "read_only"


def test_put_without_changes_makes_no_version(api: Api, editor: Api, running: ApiSetup) -> None:
    """A secret that is sent again counts as a change: editors must not learn whether they guessed it."""
    name = "unchanged"
    shown = editor.create("/integrations", {"id": name, **basic(running.upstream)})
    for match in ('"1"', "*"):
        assert editor.request("PUT", f"/integrations/{name}", shown, match=match).etag == '"1"'
    assert len(api.get(f"/integrations/{name}/activity")["items"]) == 1
    for secret in ("a-canary-of-basic", "another"):
        response = editor.request("PUT", f"/integrations/{name}", basic(running.upstream, secret), match="*")
        assert response.status == 200
    assert response.etag == '"3"'


def test_stored_integration_can_be_deleted_while_presets_use_the_one_in_a_file(editor: Api, running: ApiSetup) -> None:
    name, child = "taken", running.child
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    url = f"http://127.0.0.1:{running.upstream}/v1/x"
    preset = {"id": "of-taken", "integration": name, "url": url, "content_type": "text/plain"}
    editor.create("/presets", preset)
    assert editor.request("DELETE", f"/integrations/{name}", match='"1"').code == "in_use"
    own = f"  {name}: {{endpoint_prefix: {url}, auth: {{type: headers, headers: {{X-A: b}}}}}}\n"
    with rewritten(child, child.config.read_text() + own):
        wait_until(lambda: editor.get(f"/integrations/{name}")["status"] == "unusable")
        # The stored integration is not in use, so an edit of it cannot break the presets.
        edit = {"methods": ["GET"]}
        assert editor.request("PATCH", f"/integrations/{name}", edit, match='"1"').status == 200
        assert editor.request("DELETE", f"/integrations/{name}", match='"2"').status == 204
        assert editor.get("/presets/of-taken")["status"] == "ok"
    # After the integration leaves the file, the preset is unusable.
    wait_until(lambda: editor.get("/presets/of-taken")["status"] == "unusable")
    assert editor.get("/presets/of-taken")["problem"] == "no integration has this ID"
    assert editor.request("DELETE", "/presets/of-taken", match='"1"').status == 204
