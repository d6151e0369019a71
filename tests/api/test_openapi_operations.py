"""What the OpenAPI document says of each operation, against what a running API does: roles and preconditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from api.conftest import Named
from support.api import PREFIX, TOKENS, Api, Running, basic

ALLOWED = {
    "self": {"viewer", "editor", "admin", "sender"},
    "viewer": {"viewer", "editor", "admin"},
    "editor": {"editor", "admin"},
    "admin": {"admin"},
    "send": {"editor", "admin", "sender"},
    "sends": {"viewer", "editor", "admin", "sender"},
}


class Operation(NamedTuple):
    """A method and a path below the prefix of the API, the permission that it needs, and its conditional headers."""

    method: str
    path: str
    permission: str
    conditions: frozenset[str]

    def at(self, name: str) -> str:
        """Return the path of what has a name."""
        return self.path.replace("{id}", name).replace("{name}", name)


def operations(api: Api) -> Iterator[Operation]:
    for path, methods in api.get("/openapi.json")["paths"].items():
        for method, described in methods.items():
            headers = {each["name"] for each in described.get("parameters", ()) if each["in"] == "header"}
            permission = described["x-sidekey-permission"]
            yield Operation(method.upper(), path.removeprefix(PREFIX), permission, frozenset(headers))


def test_no_role_goes_beyond_its_operations(viewer: Api) -> None:
    """403 for each role without the permission, whatever it sends; 401 for all others, also for a caller's token."""
    found = [each for each in operations(viewer) if each.permission != "anonymous"]
    for each in found:
        # A form that a sender was not granted is forbidden to it.
        path = each.at("hook-of-a-file" if each.path.startswith("/forms") else "nobody")
        for role in TOKENS:
            said = viewer.by(TOKENS[role]).ask(each.method, path)
            refused = role not in ALLOWED[each.permission]
            assert (said.status == 403, said.status == 401) == (refused, False), (each, role, said)
            if refused:
                assert said.code == "forbidden"
        for token in ("the-token-of-a-file", "sidekey_" + "0" * 64):
            assert viewer.by(token).ask(each.method, path).code == "unauthenticated", each


@pytest.fixture
def documents(running: Running) -> dict[str, dict[str, Any]]:
    """What is created at each collection."""
    return {
        "/integrations": basic(running.upstream),
        "/presets": {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x", "content_type": "text/plain"},
        "/callers": {"integrations": []},
        "/tokens": {"role": "viewer", "own_token": TOKENS["admin"]},
    }


def test_each_change_needs_the_version_that_it_was_made_of(
    api: Api, documents: dict[str, dict[str, Any]], named: Named
) -> None:
    """428 without If-Match, 412 where somebody was first (RFC 9110 13.1.1), and nothing changes."""
    found = [each for each in operations(api) if "If-Match" in each.conditions]
    assert {each.path.partition("/{")[0] for each in found} == documents.keys()
    bodies = {"DELETE": None, "PATCH": {}, "POST": {"own_token": TOKENS["admin"]}}
    for each in found:
        collection, _, rest = each.path.partition("/{")
        name = named("versioned")
        api.make(collection, {rest.partition("}")[0]: name, **documents[collection]})
        body = bodies.get(each.method, documents[collection])
        said = api.ask(each.method, each.at(name), body)
        assert (said.status, said.code) == (428, "precondition_required"), each
        for tag in ('"2"', 'W/"1"', "1", '"1-"', '"2", "3"', '"*"', "*, *"):
            said = api.ask(each.method, each.at(name), body, match=tag)
            assert (said.status, said.code) == (412, "changed"), (each, tag)
        if "If-None-Match" in each.conditions:
            said = api.ask(each.method, each.at(name), body, headers={"If-None-Match": "*"})
            assert (said.status, said.code) == (412, "changed"), each
        assert api.ask("GET", f"{collection}/{name}").etag == '"1"'


def test_what_a_client_has_is_not_sent_again(api: Api, documents: dict[str, dict[str, Any]], named: Named) -> None:
    """304 for the tag that it was read with (RFC 9110 13.1.2)."""
    found = [each for each in operations(api) if each.method == "GET" and "If-None-Match" in each.conditions]
    assert {each.path.rpartition("/")[0] for each in found} == documents.keys()
    for each in found:
        collection, _, key = each.path.rpartition("/")
        name = named("read")
        api.make(collection, {key.strip("{}"): name, **documents[collection]})
        tag = api.ask("GET", each.at(name)).etag
        said = api.ask("GET", each.at(name), headers={"If-None-Match": tag})
        assert (said.status, said.body, said.etag) == (304, b"", tag)
        assert api.ask("GET", each.at(name), headers={"If-None-Match": '"2"'}).status == 200
