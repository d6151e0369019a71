"""api/collection.py: integrations and presets are read and changed alike."""

from __future__ import annotations

import pytest

from support.api import Api, Running, basic, rewritten
from support.http_get import within


def documents(running: Running) -> dict[str, dict[str, object]]:
    """What is valid of each, by path."""
    return {
        "/integrations": basic(running.upstream),
        "/presets": {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x", "content_type": "text/plain"},
    }


@pytest.mark.parametrize("path", ["/integrations", "/presets"])
def test_put_creates_only_where_nothing_exists(path: str, api: Api, running: Running) -> None:
    """RFC 9110 13.1.2; and `If-Match: *` changes only what exists (13.1.1)."""
    name = f"put-{path[1:]}"
    # An operator whose refused changes are all listed: earlier tests may have used up the budget of the others.
    created = api.make("/tokens", {"name": f"by-{name}", "role": "editor", "own_token": api.token})
    editor = api.by(created["token"])
    document = documents(running)[path]
    one = f"{path}/{name}"
    create = {"If-None-Match": "*"}
    said = editor.ask("PUT", one, document, match="*")
    assert (said.status, said.code) == (412, "changed")
    assert editor.ask("PUT", one, document).code == "precondition_required"
    said = editor.ask("PUT", one, {"id": "other", **document}, headers=create)
    assert (said.code, said.pointers) == ("invalid", {"/id"})
    said = editor.ask("PUT", one, document, headers=create)
    assert (said.status, said.headers["Location"], said.etag) == (201, f"/api/v1{one}", '"1"')
    said = editor.ask("PUT", one, document, headers=create)
    assert (said.status, said.code) == (412, "changed")
    assert editor.ask("PUT", f"{path}/no*name", document, headers=create).pointers == {"/id"}
    described = {"description": "x"}
    assert editor.ask("PATCH", one, described, match="*").etag == '"2"'
    assert editor.ask("PATCH", one, {"description": "y"}, match='"1", "2"').etag == '"3"'
    for method, headers in (("PATCH", create), ("DELETE", create), ("PUT", create | {"If-Match": "*"})):
        assert editor.ask(method, one, None if method == "DELETE" else described, headers=headers).code == "malformed"
    assert editor.ask("PUT", one, document, headers={"If-None-Match": '"7"'}).code == "malformed"
    assert editor.ask("DELETE", one, match="*").status == 204
    assert editor.ask("DELETE", one, match="*").code == "changed"
    found = [(each["action"], each["outcome"]) for each in api.get("/audit")["items"] if each["name"] == name]
    assert found == [
        ("delete", "changed"),
        ("delete", "ok"),
        ("update", "ok"),
        ("update", "ok"),
        ("create", "changed"),
        ("create", "ok"),
        ("update", "changed"),
    ]


@pytest.mark.parametrize("path", ["/integrations", "/presets"])
def test_put_does_not_create_what_a_file_has(path: str, editor: Api, running: Running) -> None:
    name = {"/integrations": "of-a-file", "/presets": "hook-of-a-file"}[path]
    said = editor.ask("PUT", f"{path}/{name}", documents(running)[path], headers={"If-None-Match": "*"})
    assert (said.status, said.code) == (412, "changed")
    assert editor.ask("PUT", f"{path}/{name}", documents(running)[path], match="*").code == "read_only"


def test_a_put_that_changes_nothing_makes_no_version(api: Api, editor: Api, running: Running) -> None:
    """A secret that is sent again is a change: editors must not learn whether they have guessed it."""
    name = "unchanged"
    shown = editor.make("/integrations", {"id": name, **basic(running.upstream)})
    for match in ('"1"', "*"):
        assert editor.ask("PUT", f"/integrations/{name}", shown, match=match).etag == '"1"'
    assert len(api.get(f"/integrations/{name}/activity")["items"]) == 1
    for secret in ("a-canary-of-basic", "another"):
        said = editor.ask("PUT", f"/integrations/{name}", basic(running.upstream, secret), match="*")
        assert said.status == 200
    assert said.etag == '"3"'


def test_an_integration_whose_id_a_file_has_is_deleted_although_presets_use_the_files(
    editor: Api, running: Running
) -> None:
    """It is not the stored one that they use."""
    name, child = "taken", running.child
    editor.make("/integrations", {"id": name, **basic(running.upstream)})
    url = f"http://127.0.0.1:{running.upstream}/v1/x"
    preset = {"id": "of-taken", "integration": name, "url": url, "content_type": "text/plain"}
    editor.make("/presets", preset)
    assert editor.ask("DELETE", f"/integrations/{name}", match='"1"').code == "in_use"
    own = f"  {name}: {{endpoint_prefix: {url}, auth: {{type: headers, headers: {{X-A: b}}}}}}\n"
    with rewritten(child, child.config.read_text() + own):
        within(lambda: editor.get(f"/integrations/{name}")["status"] == "unusable")
        # An edit of what is not served changes nothing for the presets.
        edit = {"methods": ["GET"]}
        assert editor.ask("PATCH", f"/integrations/{name}", edit, match='"1"').status == 200
        assert editor.ask("DELETE", f"/integrations/{name}", match='"2"').status == 204
        assert editor.get("/presets/of-taken")["status"] == "ok"
    # A file's change that takes the integration away makes the preset unusable, and listed so.
    within(lambda: editor.get("/presets/of-taken")["status"] == "unusable")
    assert editor.get("/presets/of-taken")["problem"] == "no integration has this ID"
    assert editor.ask("DELETE", "/presets/of-taken", match='"1"').status == 204
