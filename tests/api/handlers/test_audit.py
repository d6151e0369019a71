"""`/audit`: each action of an operator has an entry, with changed fields but never a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from support.api import Api, ApiSetup, basic, rewritten, serving
from support.console_browser import ConsoleBrowser
from support.http_get import wait_until

Named = Callable[[str], str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSetup]:
    """A process of its own: audit entries of refusals and tests are limited for each token."""
    with serving(tmp_path_factory.mktemp("audit")) as process:
        yield process


def test_audit_lists_each_change_with_its_fields(api: Api, editor: Api, running: ApiSetup, named: Named) -> None:
    """The audit lists refused changes, too."""
    name = named("noted")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    editor.request(
        "PATCH", f"/integrations/{name}", {"description": "d", "auth": {"password": {"value": "new"}}}, match='"1"'
    )
    editor.request("PATCH", f"/integrations/{name}", {"endpoint_prefix": "https://other.example"}, match='"2"')
    editor.request("DELETE", f"/integrations/{name}", match='"2"')
    items = [item for item in api.get("/audit")["items"] if item["name"] == name]
    assert [(item["action"], item["outcome"]) for item in items] == [
        ("delete", "ok"),
        ("update", "reenter"),
        ("update", "ok"),
        ("create", "ok"),
    ]
    assert items[2]["fields"] == ["/auth/password", "/description"]
    assert items[3]["fields"] == ["/auth", "/auth/password", "/auth/username", "/endpoint_prefix", "/test"]
    assert {(item["who"], item["object"], item["from"]) for item in items} == {
        ("editor-of-file", "integration", "127.0.0.1")
    }


def test_change_that_the_role_forbids_is_in_the_audit(api: Api, viewer: Api, named: Named) -> None:
    name = named("tried")
    assert viewer.request("DELETE", f"/callers/{name}", match='"1"').code == "forbidden"
    item = next(item for item in api.get("/audit")["items"] if item["name"] == name)
    assert (item["who"], item["action"], item["outcome"]) == ("viewer-of-file", "delete", "forbidden")


def test_invalid_name_is_not_in_the_audit(api: Api, viewer: Api) -> None:
    """The operator may have pasted a secret."""
    assert viewer.request("POST", "/callers", {"name": "A canary"}).code == "forbidden"
    item = api.get("/audit")["items"][0]
    assert (item["who"], item["action"], item["name"]) == ("viewer-of-file", "create", "")


def test_viewers_read_the_activity_of_an_integration(viewer: Api, editor: Api, running: ApiSetup, named: Named) -> None:
    """An entry has the operator, the time and the fields, but not the client's address."""
    name = named("own")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    (entry,) = viewer.get(f"/integrations/{name}/activity")["items"]
    assert entry.keys() == {"number", "at", "who", "label", "action", "fields", "outcome"}
    assert viewer.request("GET", "/integrations/of-a-file/activity").code == "not_found"


def test_next_leads_to_older_entries(api: Api, editor: Api, running: ApiSetup, named: Named) -> None:
    name = named("busy")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    for version in range(1, 52):
        change = {"description": str(version)}
        assert editor.request("PATCH", f"/integrations/{name}", change, match=f'"{version}"').status == 200
    first = api.get(f"/integrations/{name}/activity")
    assert len(first["items"]) == 50
    second = api.get(f"/integrations/{name}/activity?before={first['next']}")
    assert ([item["action"] for item in second["items"]], second["next"]) == (["update", "create"], None)
    assert len(api.get("/audit")["items"]) == 50
    for wrong in ("0", "-1", "x", "1" * 30):
        assert api.request("GET", f"/audit?before={wrong}").code == "malformed"


def test_audit_is_searched_by_text_person_and_object(api: Api, editor: Api, running: ApiSetup, named: Named) -> None:
    first, second = named("searched"), named("searched")
    for name in (first, second):
        editor.create("/integrations", {"id": name, **basic(running.upstream)})
    editor.request("PATCH", f"/integrations/{first}", {"endpoint_prefix": "https://other.example"}, match='"1"')

    def entries_for(**query: str) -> list[tuple[str, str]]:
        return [(item["action"], item["name"]) for item in api.get(f"/audit?{urlencode(query)}")["items"]]

    assert entries_for(name=first) == [("update", first), ("create", first)]
    assert entries_for(q="REENTER", who="EDITOR", object="integration")[0] == ("update", first)
    assert entries_for(q=f"{second} editor CREATE") == [("create", second)]
    assert entries_for(q=f"{second[:-1]}%") == []
    assert entries_for(name=first, who="viewer-of-file") == entries_for(name=first, object="x") == []
    for wrong in (f"q={'x' * 201}", f"who={'x' * 201}", "q=%00", "who=%0a", "kind=token"):
        assert api.request("GET", f"/audit?{wrong}").code == "malformed"
    assert editor.request("GET", "/audit?q=x").code == "forbidden"


@pytest.mark.parametrize("kind", ["integration", "preset"])
def test_entry_has_the_title_of_an_existing_resource(
    editor: Api, api: Api, running: ApiSetup, named: Named, kind: str
) -> None:
    name = named("titled")
    preset = {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x"}
    document = {"id": name, "title": "Welcome", **(preset if kind == "preset" else basic(running.upstream))}

    def titles() -> list[str | None]:
        return [item["title"] for item in api.get(f"/audit?object={kind}&name={name}")["items"]]

    editor.create(f"/{kind}s", document)
    assert titles() == ["Welcome"]
    assert editor.request("DELETE", f"/{kind}s/{name}", match='"1"').status == 204
    editor.create(f"/{kind}s", {**document, "title": "Another"})
    assert titles() == ["Another", None, None]


def test_audit_has_the_client_address_that_a_proxy_reports(api: Api, running: ApiSetup, named: Named) -> None:
    """Sidekey ignores X-Forwarded-For without `behind_tls`, and uses its last address otherwise."""

    def source(forwarded: str) -> str:
        name = named("forwarded")
        fields = {"X-Forwarded-For": forwarded}
        assert api.request("POST", "/callers", {"name": name}, headers=fields).status == 201
        return str(next(item["from"] for item in api.get("/audit")["items"] if item["name"] == name))

    assert source("203.0.113.7") == "127.0.0.1"
    child = running.child
    with rewritten(child, child.config.read_text().replace("admin: {tokens", "admin: {behind_tls: true, tokens")):
        wait_until(lambda: source("198.51.100.1, 203.0.113.7") == "203.0.113.7 by 127.0.0.1")
        assert source("2001:DB8::7%eth0") == "2001:db8::7 by 127.0.0.1"
        for invalid in ("", "unknown", "203.0.113.7, <script>", "203.0.113.7,"):
            assert source(invalid) == "127.0.0.1"
    wait_until(lambda: source("203.0.113.7") == "127.0.0.1")


def entries_of(api: Api, who: str) -> list[dict[str, Any]]:
    """Return all entries of an operator, newest first."""
    listed: list[dict[str, Any]] = []
    path = "/audit"
    while path:
        page = api.get(path)
        listed += page["items"]
        path = f"/audit?before={page['next']}" if page["next"] else ""
    return [entry for entry in listed if entry["who"] == who]


def new_operator(api: Api, name: str, role: str) -> Api:
    """Create an operator with unused limits, and return the API with its token."""
    return api.by(api.create("/tokens", {"name": name, "role": role, "own_token": api.token})["token"])


def test_limit_of_logins_does_not_hide_a_test(api: Api, editor: Api, running: ApiSetup, named: Named) -> None:
    name, who = named("tested"), named("visitor")
    editor.create("/integrations", {"id": name, **basic(running.upstream)})
    visitor = new_operator(api, who, "viewer")
    for _ in range(103):
        ConsoleBrowser(api.port).log_in(visitor.token)
    assert visitor.request("POST", f"/integrations/{name}/test").json["ok"] is True
    listed = entries_of(api, who)
    assert [(item["action"], item["name"], item["outcome"]) for item in listed[:2]] == [
        ("test", name, "ok"),
        ("login", "", "more not listed"),
    ]
    assert [(item["action"], item["outcome"]) for item in listed[2:]] == [("login", "ok")] * 100
    assert [item["action"] for item in api.get(f"/integrations/{name}/activity")["items"]] == ["test", "create"]


def test_refused_changes_beyond_the_limit_are_not_listed(api: Api, named: Named) -> None:
    """A loop of refused changes must not become a loop of transactions."""
    who = named("refused")
    visitor = new_operator(api, who, "viewer")
    for _ in range(102):
        assert visitor.request("DELETE", "/callers/nobody", match='"1"').code == "forbidden"
    assert visitor.request("DELETE", "/callers/nobody").code == "forbidden"
    listed = entries_of(api, who)
    assert (listed[0]["action"], listed[0]["outcome"]) == ("refused change", "more not listed")
    assert [(item["action"], item["outcome"]) for item in listed[1:]] == [("delete", "forbidden")] * 100


def test_test_of_a_draft_is_listed(api: Api, editor: Api, running: ApiSetup, named: Named) -> None:
    name, who = named("draft"), named("drafter")
    drafter = new_operator(api, who, "editor")
    response = drafter.request("POST", "/drafts/integration/test", {"id": name, **basic(running.upstream)})
    assert response.json["ok"] is True
    (entry,) = entries_of(api, who)
    assert (entry["action"], entry["object"]) == ("test draft", "integration")
    assert (entry["name"], entry["outcome"]) == (name, "ok")
