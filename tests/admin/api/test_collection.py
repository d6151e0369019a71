"""admin/api/collection.py: integrations and presets are read and changed alike."""

from __future__ import annotations

import pytest

from admin.api.conftest import Running
from support.api import Api, basic, rewritten
from support.ask import within


def documents(running: Running) -> dict[str, dict[str, object]]:
    """What is valid of each, by path."""
    return {
        "/integrations": basic(running.upstream),
        "/presets": {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x", "content_type": "text/plain"},
    }


@pytest.mark.parametrize("path", ["/integrations", "/presets"])
def test_a_name_is_given_once_and_a_change_names_the_version(path: str, editor: Api, running: Running) -> None:
    """Whichever of the two it is."""
    name = f"alike-{path[1:]}"
    document = documents(running)[path]
    said = editor.ask("POST", path, {"id": name, **document})
    assert (said.status, said.headers["Location"], said.etag) == (201, f"/api/v1{path}/{name}", '"1"')
    again = editor.ask("POST", path, {"id": name, **document})
    assert (again.status, again.code) == (409, "exists")
    assert editor.ask("PATCH", f"{path}/{name}", {"description": "x"}).code == "precondition_required"
    assert editor.ask("PATCH", f"{path}/{name}", {"description": "x"}, match='"7"').code == "changed"
    assert editor.ask("PATCH", f"{path}/{name}", {"description": "x"}, match='"1"').etag == '"2"'
    assert editor.ask("POST", f"{path}/{name}/release", match='"2"').etag == '"2"'
    assert editor.ask("DELETE", f"{path}/{name}", match='"1"').code == "changed"
    assert editor.ask("DELETE", f"{path}/{name}", match='"2"').status == 204
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        match = None if method == "GET" else '"2"'
        assert editor.ask(method, f"{path}/{name}", body, match=match).code == "not_found"


def test_an_integration_that_a_file_hides_is_deleted_although_presets_use_the_files(
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
        within(lambda: editor.get(f"/integrations/{name}")["version"] == 2)
        # An edit of what is not served changes nothing for the presets.
        edit = {"methods": ["GET"]}
        assert editor.ask("PATCH", f"/integrations/{name}", edit, match='"2"').status == 200
        assert editor.ask("DELETE", f"/integrations/{name}", match='"3"').status == 204
        assert editor.get("/presets/of-taken")["status"] == "ok"
    # A file's change that takes the integration away makes the preset invalid, and listed so.
    within(lambda: editor.get("/presets/of-taken")["status"] == "invalid")
    assert editor.get("/presets/of-taken")["reason"] == "no integration has this ID"
    assert editor.ask("DELETE", "/presets/of-taken", match='"1"').status == 204
