"""The API against its own OpenAPI document: whatever operators of each role send, a response is one of those in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sidekey.admin.api.openapi import document
from sidekey.admin.api.route import PREFIX, Route
from sidekey.admin.api.table import ROUTES
from sidekey.runtime.admin_rules import ROLES, includes
from support.api import TOKENS, Api, managed
from support.stored import documents

DOCUMENT = document(ROUTES)
CANARY = "canary-of-a-property"
KNOWN = ("first", "second", "of-a-file")
MORE = """
callers: {of-a-file: {token: {insecure_value: the-token-of-a-file}, integrations: "*"}}
integrations:
  of-a-file: {endpoint_prefix: http://127.0.0.1:1, auth: {type: headers, headers: {X-A: b}}}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A process for all examples: what one leaves behind, the next one finds."""
    with managed(tmp_path_factory.mktemp("property"), more=MORE) as child:
        yield Api(child.admin_port)
        assert not [line for line in child.lines if CANARY in line or "defect" in line]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
"""Anything that JSON can say."""

SECRETS = st.sampled_from(
    [{"value": CANARY}, {"set": True}, {"set": False}, {"file": "x"}, {"url": "https://a.example"}, {"value": "*"}]
)

BODIES: dict[str, list[dict[str, Any]]] = {
    "integration": [{"id": "first", **each} for each in documents().values()]
    + [
        {"id": "second", "endpoint_prefix": "http://127.0.0.1:1/", "auth": {"type": "headers", "headers": {"X-A": "b"}}}
    ],
    "caller": [{"name": "first", "integrations": ["first"]}, {"name": "second", "integrations": "*"}],
    "token": [{"name": "first", "role": "viewer", "own_token": TOKENS["admin"]}],
    "": [{"url": "/x"}, {"url": "https://a.example/%2e%2e"}],
}


def _edited(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value somewhere."""
    if not path:
        return value
    key, *rest = path
    if isinstance(node, dict):
        return {**node, key: _edited(node.get(key), tuple(rest), value)}
    return [*node[:key], _edited(node[key], tuple(rest), value), *node[key + 1 :]]


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _paths(value, (*path, key))


@st.composite
def bodies(draw: st.DrawFn, of: str) -> Any:
    """A good document with up to two changes, or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON_VALUES)
    found: Any = draw(st.sampled_from(BODIES[of]))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.sampled_from(list(_paths(found))))
        found = _edited(found, place, draw(JSON_VALUES | SECRETS))
        if not isinstance(found, dict):
            break
    return found


@st.composite
def requests(draw: st.DrawFn) -> tuple[Route, str, str, Any, str | None]:
    """A route, a role, the path with its query, a body, and If-Match."""
    route = draw(st.sampled_from(ROUTES))
    role = draw(st.sampled_from(["admin", *ROLES]))
    path = route.path
    for name in ("{id}", "{name}"):
        path = path.replace(name, draw(st.sampled_from(["first", "first", *KNOWN, "nobody", "A", "viewer-of-file"])))
    names = [*route.query, *(["other"] if draw(st.integers(0, 9)) == 0 else [])]
    values = st.sampled_from(["", "true", "ok", "1", "first:store", "basic"])
    query = draw(st.dictionaries(st.sampled_from(names), values, max_size=2)) if names else {}
    path += "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""
    body = draw(bodies(route.writes)) if route.body else None
    if isinstance(body, dict) and "{" in route.path:
        body = {key: value for key, value in body.items() if key not in ("id", "name")}
    tags = st.sampled_from(["current", "current", "current", None, '"1"', "*", 'W/"1"'])
    return route, role, path, body, draw(tags) if route.conditional else None


@given(request=requests())
@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_response_is_in_the_document(api: Api, request: tuple[Route, str, str, Any, str | None]) -> None:
    """Its status, its media type and its body; never a 500, a secret, or more than the role's table."""
    route, role, path, body, match = request
    by = api.by(TOKENS[role])
    if match == "current":
        match = api.ask("GET", path.partition("?")[0].removesuffix("/release")).headers.get("ETag")
    said = by.ask(route.method, path, body, match=match)
    operation = DOCUMENT["paths"][f"{PREFIX}{route.path}"][route.method.lower()]
    responses = operation["responses"]
    assert said.status < 500, (said, request)
    assert str(said.status) in responses, (said, request)
    assert (said.status != 403) or not includes(role, route.role) or route.name == "createToken", said  # type: ignore[arg-type]
    if not includes(role, route.role):  # type: ignore[arg-type]
        assert said.status == 403, said
    content = responses[str(said.status)].get("content")
    if content is None:
        assert said.body == b""
    else:
        ((media, described),) = content.items()
        assert said.headers["Content-Type"] == media
        schema = {"components": DOCUMENT["components"], **described["schema"]}
        errors = list(Draft202012Validator(schema).iter_errors(said.json))
        assert errors == [], (errors[0].message, json.dumps(said.json))
    assert CANARY not in said.body.decode()
