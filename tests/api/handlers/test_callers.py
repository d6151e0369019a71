"""api/handlers/callers.py: who is let in, with a token that is shown once."""

from __future__ import annotations

from collections.abc import Callable

from support.api import Api, Running, basic, rewritten
from support.http_get import get, within

Named = Callable[[str], str]


def status(running: Running, integration: str, token: str) -> int:
    """What a caller with this token is told."""
    return get(running.child.proxy_port, f"/i/{integration}/x", {"Sidekey-Token": token}).status


def test_a_caller_is_let_in_at_once_to_what_it_lists(api: Api, running: Running, named: Named) -> None:
    """Its token is in the response to its making and nowhere else; what it lists may be made later."""
    name, first, second = named("billing"), named("one"), named("two")
    said = api.ask("POST", "/callers", {"name": name, "integrations": [first]})
    assert (said.status, said.etag, said.headers["Location"]) == (201, '"1"', f"/api/v1/callers/{name}")
    token = said.json["token"]
    assert token.startswith("sidekey_")
    assert len(token) == len("sidekey_") + 43
    for each in (first, second):
        api.make("/integrations", {"id": each, **basic(running.upstream)})
    assert [status(running, each, token) for each in (first, second)] == [200, 403]
    shown = api.get(f"/callers/{name}")
    assert "token" not in shown
    assert (shown["integrations"], shown["source"], shown["updated_by"]) == ([first], "store", "admin-of-file")
    changed = api.ask("PUT", f"/callers/{name}", {**shown, "integrations": "*"}, match='"1"')
    assert (changed.status, changed.json["integrations"], changed.etag) == (200, "*", '"2"')
    assert status(running, second, token) == 200
    changed = api.ask("PATCH", f"/callers/{name}", {"integrations": [second]}, match='"2"')
    assert [status(running, each, token) for each in (first, second)] == [403, 200]
    assert api.ask("DELETE", f"/callers/{name}", match='"3"').status == 204
    assert status(running, second, token) == 401
    assert api.ask("GET", f"/callers/{name}").code == "not_found"


def test_a_caller_of_a_file_is_read_only(api: Api) -> None:
    """And its name is nobody else's."""
    assert api.get("/callers/of-a-file")["source"] == "file"
    for method, body in (("PUT", {"integrations": []}), ("PATCH", {}), ("DELETE", None)):
        assert api.ask(method, "/callers/of-a-file", body, match='"1"').code == "read_only"
    assert api.ask("POST", "/callers", {"name": "of-a-file"}).code == "exists"


def test_what_a_caller_may_use_is_checked_whole(api: Api, named: Named) -> None:
    """Every error at once; a caller that lists nothing may use nothing."""
    name = named("wrong")
    said = api.ask("POST", "/callers", {"name": name, "integrations": ["ok", "Not", 7], "token": "mine"})
    assert said.pointers == {"/token", "/integrations/1", "/integrations/2"}
    assert api.ask("POST", "/callers", {"integrations": ["Not"]}).pointers == {"/name", "/integrations/0"}
    for wrong in ("all", {}, None, 7):
        assert api.ask("POST", "/callers", {"name": name, "integrations": wrong}).pointers == {"/integrations"}
    assert api.make("/callers", {"name": name})["integrations"] == []
    assert api.ask("PUT", f"/callers/{name}", {}, match='"1"').pointers == {"/integrations"}
    said = api.ask("PUT", f"/callers/{name}", {"name": "other", "integrations": 7}, match='"1"')
    assert said.pointers == {"/name", "/integrations"}
    assert api.ask("PATCH", f"/callers/{name}", {}, match='"1"').etag == '"1"'
    for method in ("PUT", "PATCH", "DELETE"):
        body = None if method == "DELETE" else {"integrations": []}
        assert api.ask(method, f"/callers/{name}", body).code == "precondition_required"
        assert api.ask(method, f"/callers/{name}", body, match='"7"').code == "changed"


def test_a_caller_may_use_presets_alone(api: Api, named: Named) -> None:
    """Validated and shown as integrations are; those that do not exist yet count once they do."""
    name = named("presets")
    made = api.make("/callers", {"name": name, "presets": ["later", "later", "hook-of-a-file"]})
    assert (made["integrations"], made["presets"]) == ([], ["later", "hook-of-a-file"])
    entries = api.get("/audit")["items"]
    assert next(each["fields"] for each in entries if each["name"] == name) == ["/integrations", "/presets", "token"]
    said = api.ask("PATCH", f"/callers/{name}", {"integrations": ["crm"]}, match='"1"')
    assert (said.json["integrations"], said.json["presets"]) == (["crm"], ["later", "hook-of-a-file"])
    said = api.ask("PATCH", f"/callers/{name}", {"presets": "*"}, match='"2"')
    assert (said.json["presets"], said.etag) == ("*", '"3"')
    assert api.ask("PATCH", f"/callers/{name}", {"presets": "*"}, match='"3"').etag == '"3"'
    # PUT has all that it may use: what is left out, it may not.
    assert api.ask("PUT", f"/callers/{name}", {"integrations": ["crm"]}, match='"3"').json["presets"] == []
    wrong = {"integrations": ["ok"], "presets": ["ok", "Not", 7]}
    assert api.ask("PUT", f"/callers/{name}", wrong, match='"4"').pointers == {"/presets/1", "/presets/2"}
    for each in ("all", {}, 7):
        assert api.ask("PATCH", f"/callers/{name}", {"presets": each}, match='"4"').pointers == {"/presets"}
    # null removes a key (RFC 7396).
    api.ask("PATCH", f"/callers/{name}", {"presets": "*"}, match='"4"')
    assert api.ask("PATCH", f"/callers/{name}", {"presets": None}, match='"5"').json["presets"] == []
    assert api.ask("PATCH", f"/callers/{name}", {"integrations": None}, match='"6"').pointers == {"/integrations"}
    assert api.get("/callers/of-a-file")["presets"] == ["hook-of-a-file"]


def test_callers_are_listed_by_name(api: Api, named: Named) -> None:
    """Those of files as well, in pages."""
    name = named("listed")
    api.make("/callers", {"name": name})
    found = api.get("/callers")["items"]
    assert {"of-a-file", name} <= {each["name"] for each in found}
    assert not any("token" in each for each in found)
    assert api.get("/callers?after=zzz:file") == {"items": [], "next": None}
    assert api.ask("GET", "/callers?after=zzz").code == "malformed"


def test_a_stored_caller_whose_name_a_file_has_is_shown_and_can_be_deleted(
    api: Api, running: Running, named: Named
) -> None:
    """It lets nobody in meanwhile; whoever looks for it finds it, and not only the file's."""
    name, child = named("both"), running.child
    token = api.make("/callers", {"name": name, "integrations": "*"})["token"]
    assert status(running, "of-a-file", token) != 401
    written = child.config.read_text()
    stanza = (
        f"callers:\n  {name}: {{token: {{insecure_value: another-token-of-a-file}}, integrations: []}}\n  of-a-file:"
    )
    with rewritten(child, written.replace("callers: {of-a-file:", stanza).replace('"*"}}', '"*"}')):
        within(lambda: api.get(f"/callers/{name}")["status"] == "unusable")
        assert status(running, "of-a-file", token) == 401
        found = [each for each in api.get("/callers")["items"] if each["name"] == name]
        assert [(each["source"], each["status"]) for each in found] == [("file", "ok"), ("store", "unusable")]
        assert found[1]["problem"].startswith("a config file has the same caller name")
        said = api.ask("PUT", f"/callers/{name}", {"integrations": ["of-a-file"]}, match='"1"')
        assert (said.status, said.json["status"], said.json["version"]) == (200, "unusable", 2)
        assert api.ask("POST", "/callers", {"name": name}).code == "exists"
        assert api.ask("DELETE", f"/callers/{name}", match='"2"').status == 204
        assert api.get(f"/callers/{name}")["source"] == "file"
        assert api.ask("DELETE", f"/callers/{name}", match='"2"').code == "read_only"
    within(lambda: api.ask("GET", f"/callers/{name}").status == 404)


def test_put_creates_a_caller_with_its_token(api: Api, running: Running, named: Named) -> None:
    """Only where there is none; a PUT that changes nothing makes no version."""
    name = named("put")
    create, document = {"If-None-Match": "*"}, {"integrations": "*"}
    assert api.ask("PUT", f"/callers/{name}", document, match="*").code == "changed"
    made = api.ask("PUT", f"/callers/{name}", document, headers=create)
    assert (made.status, made.etag, made.headers["Location"]) == (201, '"1"', f"/api/v1/callers/{name}")
    assert status(running, "of-a-file", made.json["token"]) != 401
    assert api.ask("PUT", f"/callers/{name}", document, headers=create).code == "changed"
    assert api.ask("PUT", "/callers/of-a-file", document, headers=create).code == "changed"
    same = api.ask("PUT", f"/callers/{name}", document, match="*")
    assert (same.status, same.etag, "token" in same.json) == (200, '"1"', False)


def test_a_rotated_token_replaces_the_previous_one_at_once(api: Api, running: Running, named: Named) -> None:
    name = named("rotated")
    made = api.make("/callers", {"name": name, "presets": ["hook-of-a-file"]})
    path, sent = f"/callers/{name}/rotate", {"own_token": api.token}
    assert status(running, "of-a-file", made["token"]) == 403
    assert api.ask("POST", path, sent).code == "precondition_required"
    assert api.ask("POST", path, sent, match='"2"').code == "changed"
    assert api.ask("POST", path, {}, match='"1"').pointers == {"/own_token"}
    assert api.ask("POST", path, {"own_token": made["token"]}, match='"1"').code == "forbidden"
    assert status(running, "of-a-file", made["token"]) == 403
    said = api.ask("POST", path, sent, match='"1"')
    assert (said.status, said.etag, said.json["presets"]) == (200, '"2"', ["hook-of-a-file"])
    assert status(running, "of-a-file", said.json["token"]) == 403
    assert status(running, "of-a-file", made["token"]) == 401
    assert "token" not in api.get(f"/callers/{name}")
    entry = api.get(f"/audit?name={name}")["items"][0]
    assert (entry["action"], entry["fields"], entry["outcome"]) == ("rotate", ["token"], "ok")
    assert api.ask("POST", "/callers/of-a-file/rotate", sent, match='"1"').code == "read_only"
    assert api.ask("POST", "/callers/nobody/rotate", sent, match='"1"').code == "not_found"
