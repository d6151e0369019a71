"""The operations in the OpenAPI document, against a running API: roles and preconditions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from api.conftest import Named
from support.api import PREFIX, TOKENS, Api, ApiSetup, basic

ALLOWED = {
    "self": {"viewer", "editor", "admin", "sender"},
    "viewer": {"viewer", "editor", "admin"},
    "editor": {"editor", "admin"},
    "admin": {"admin"},
    "send": {"editor", "admin", "sender"},
    "sends": {"viewer", "editor", "admin", "sender"},
}


class Operation(NamedTuple):
    """A method and a path below the API's prefix, its permission, and its conditional headers."""

    method: str
    path: str
    permission: str
    conditions: frozenset[str]

    def at(self, name: str) -> str:
        """Return the path of a named resource."""
        return self.path.replace("{id}", name).replace("{name}", name)


def operations(api: Api) -> Iterator[Operation]:
    for path, methods in api.get("/openapi.json")["paths"].items():
        for method, described in methods.items():
            headers = {
                parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "header"
            }
            permission = described["x-sidekey-permission"]
            yield Operation(method.upper(), path.removeprefix(PREFIX), permission, frozenset(headers))


def test_each_operation_needs_its_role(viewer: Api) -> None:
    """The response is 403 for other roles, and 401 for other tokens, such as a caller's."""
    selected = [operation for operation in operations(viewer) if operation.permission != "anonymous"]
    for operation in selected:
        # A sender gets 403 for a form that it was not granted.
        path = operation.at("hook-of-a-file" if operation.path.startswith("/forms") else "nobody")
        for role in TOKENS:
            response = viewer.by(TOKENS[role]).request(operation.method, path)
            refused = role not in ALLOWED[operation.permission]
            assert (response.status == 403, response.status == 401) == (refused, False), (operation, role, response)
            if refused:
                assert response.code == "forbidden"
        for token in ("the-token-of-a-file", "sidekey_" + "0" * 64):
            assert viewer.by(token).request(operation.method, path).code == "unauthenticated", operation


@pytest.fixture
def documents(running: ApiSetup) -> dict[str, dict[str, Any]]:
    """Build a valid document for each collection."""
    return {
        "/integrations": basic(running.upstream),
        "/presets": {"integration": "of-a-file", "url": "http://127.0.0.1:1/v1/x", "content_type": "text/plain"},
        "/callers": {"integrations": []},
        "/tokens": {"role": "viewer", "own_token": TOKENS["admin"]},
    }


def test_each_change_needs_the_current_version(api: Api, documents: dict[str, dict[str, Any]], named: Named) -> None:
    """The response is 428 without If-Match, and 412 for another version (RFC 9110 13.1.1)."""
    selected = [operation for operation in operations(api) if "If-Match" in operation.conditions]
    assert {operation.path.partition("/{")[0] for operation in selected} == documents.keys()
    bodies = {"DELETE": None, "PATCH": {}, "POST": {"own_token": TOKENS["admin"]}}
    for operation in selected:
        collection, _, rest = operation.path.partition("/{")
        name = named("versioned")
        api.create(collection, {rest.partition("}")[0]: name, **documents[collection]})
        body = bodies.get(operation.method, documents[collection])
        response = api.request(operation.method, operation.at(name), body)
        assert (response.status, response.code) == (428, "precondition_required"), operation
        for tag in ('"2"', 'W/"1"', "1", '"1-"', '"2", "3"', '"*"', "*, *"):
            response = api.request(operation.method, operation.at(name), body, match=tag)
            assert (response.status, response.code) == (412, "changed"), (operation, tag)
        if "If-None-Match" in operation.conditions:
            response = api.request(operation.method, operation.at(name), body, headers={"If-None-Match": "*"})
            assert (response.status, response.code) == (412, "changed"), operation
        assert api.request("GET", f"{collection}/{name}").etag == '"1"'


def test_current_etag_gets_304(api: Api, documents: dict[str, dict[str, Any]], named: Named) -> None:
    """RFC 9110 13.1.2."""
    selected = [
        operation
        for operation in operations(api)
        if operation.method == "GET" and "If-None-Match" in operation.conditions
    ]
    assert {operation.path.rpartition("/")[0] for operation in selected} == documents.keys()
    for operation in selected:
        collection, _, key = operation.path.rpartition("/")
        name = named("read")
        api.create(collection, {key.strip("{}"): name, **documents[collection]})
        tag = api.request("GET", operation.at(name)).etag
        response = api.request("GET", operation.at(name), headers={"If-None-Match": tag})
        assert (response.status, response.body, response.etag) == (304, b"", tag)
        assert api.request("GET", operation.at(name), headers={"If-None-Match": '"2"'}).status == 200
