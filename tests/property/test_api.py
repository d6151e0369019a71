"""The API and its OpenAPI document: every response, to any role, is in the document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sidekey.api.errors import FORBIDDEN
from sidekey.api.messages import YAML
from sidekey.api.openapi import document
from sidekey.api.route import PREFIX, Route
from sidekey.api.routes import ROUTES
from sidekey.snapshot.admin import PERMISSIONS
from support.api import JSON, MERGE_PATCH, TOKENS, Api, ApiResponse, managed
from support.stored import documents

DOCUMENT = document(ROUTES)
CANARY = "canary-of-a-property"
MORE = """
callers: {of-a-file: {token: {insecure_value: the-token-of-a-file}, integrations: "*"}}
integrations:
  of-a-file: {endpoint_prefix: http://127.0.0.1:1, auth: {type: headers, headers: {X-A: b}}}
presets:
  of-a-file: {integration: of-a-file, url: http://127.0.0.1:1/x, content_type: text/plain}
  hook-of-a-file:
    {integration: of-a-file, url: http://127.0.0.1:1/x, parameters: {user: {type: text}}, body: {json: "{{user}}"}}
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One process for all examples, so that later ones see the results of earlier ones."""
    with managed(tmp_path_factory.mktemp("property"), more=MORE) as child:
        yield Api(child.admin_port)
        assert child.stop() == 0
    assert not [line for line in child.lines if CANARY in line or "defect" in line]


WORDS = "basic first GET Authorization https://a.example/v1 http://127.0.0.1:1 10.0.0.0/8 2030-01-01T00:00:00Z /%2e%2e/"
TEXTS = st.sampled_from(["", "*", "••", "a\x00b", "x" * 300, "-----BEGIN X-----", *WORDS.split()]) | st.text(max_size=6)
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 2**70, 10**400, 1.5, -0.0, 1e300])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
"""Anything that JSON can say."""

SECRETS = st.sampled_from(
    [
        {"value": CANARY},
        {"set": True},
        {"set": True, "id": "s_1"},
        {"set": False},
        {"file": "x"},
        {"url": "https://a.example"},
        {"value": "*"},
    ]
)


GOOD: dict[str, list[dict[str, Any]]] = {
    "NewIntegration": [{"id": "first", **item} for item in documents().values()]
    + [{"id": "second", "endpoint_prefix": "http://127.0.0.1:1", "auth": {"type": "headers", "headers": {"X-A": "b"}}}],
    "NewPreset": [
        {"id": "first", "integration": "of-a-file", "url": "http://127.0.0.1:1/x", "content_type": "text/plain"},
        {
            "id": "second",
            "integration": "second",
            "url": "http://127.0.0.1:1/{{a}}",
            "parameters": {"a": {"type": "text"}},
            "body": {"json": {"a": "{{a}}"}},
        },
    ],
    "NewCaller": [
        {"name": "first", "integrations": ["first"], "presets": ["first"]},
        {"name": "second", "integrations": "*", "presets": "*"},
    ],
    "NewToken": [{"name": "first", "role": "viewer", "own_token": TOKENS["admin"]}],
    "Confirmation": [{"own_token": TOKENS["admin"]}, {"own_token": "wrong"}],
    "TokenPatch": [{"presets": ["first"], "per_minute": 5, "per_day": 7, "own_token": TOKENS["admin"]}],
    "StartLogIn": [{}, {"again": True}],
    "FinishLogIn": [{"code": "x", "state": "x"}, {"code": "x", "state": "x", "iss": "https://idp.example"}],
    "LogIn": [{"token": TOKENS["viewer"]}, {"token": "wrong"}],
    "ExplainRequest": [
        {"url": "/x"},
        {"url": "https://a.example/%2e%2e"},
        {"url": "/x", "method": "POST", "headers": [["A", "b"]], "body": "{}", "at": "2026-01-31T23:59:59Z"},
    ],
}
GOOD["IntegrationDocument"] = [{key: item[key] for key in item if key != "id"} for item in GOOD["NewIntegration"]]
GOOD["PresetDocument"] = [{key: item[key] for key in item if key != "id"} for item in GOOD["NewPreset"]]
GOOD["PresetTrial"] = [{"parameters": {"a": "x"}}, {"payload": "x", "content_type": "text/plain"}, {}]
GOOD["SendRequest"] = [*({"parameters": {"user": user}} for user in ("x", "y")), {"payload": "x"}]
GOOD["SendRequest"] += [{"parameters": {"user": "x"}, "batch": {"id": "b" * 32, "rows": 3}}]
GOOD["CheckRequest"] = [{"rows": [{"user": "x"}, {"user": 1, "x": 2}]}]
GOOD["PresetDraftTrial"] = [{**item, "sample": trial} for item in GOOD["NewPreset"] for trial in GOOD["PresetTrial"]]
GOOD["CallerDocument"] = [{"integrations": []}, {"integrations": "*"}]
GOOD["Patch"] = [
    *GOOD["IntegrationDocument"],
    *GOOD["PresetDocument"],
    *GOOD["CallerDocument"],
    {"description": "x"},
    {"tags": None},
]


def _edited(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Copy a document and change a value somewhere."""
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
    """Draw a valid document with up to two changes, or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    result: Any = draw(st.sampled_from(GOOD[of]))
    for _ in range(draw(st.integers(0, 2))):
        result = _edited(result, draw(st.sampled_from(list(_paths(result)))), draw(VALUES | SECRETS))
        if not isinstance(result, dict):
            break
    return result


def _plain(text: str) -> bytes:
    return text.encode()


ODD: list[Callable[[str], bytes]] = [
    lambda text: text.replace("{", '{"auth": 1, "auth": {}, ', 1).encode(),
    lambda text: text.replace("{", '{"limits": {"in_flight": NaN}, ', 1).encode(),
    lambda text: text.replace("{", '{"limits": {"in_flight": 1e999}, ', 1).encode(),
    lambda text: text.replace("{", '{"description": "\\ud800", ', 1).encode(),
    lambda text: text.replace("{", '{"own_token": "\\udfff", "\\ud800": 1, ', 1).encode(),
    lambda text: text.replace("{", '{"tags": ' + "[" * 900 + "]" * 900 + ", ", 1).encode(),
    lambda text: text.replace("{", '{"auth": ' + '{"a": ' * 5000 + "1" + "}" * 5000 + ", ", 1).encode(),
    lambda text: text.replace("{", '{"tags": [' + "1," * 15_000 + "1], ", 1).encode(),
    lambda text: text.replace("{", '{"tags": [' + "1," * 90_000 + "1], ", 1).encode(),
    lambda text: text.encode("utf-16"),
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.encode() + b"\x00",
    lambda text: text.encode()[:-1],
    lambda text: text.encode().replace(b'"', b"\xff"),
]
"""Invalid JSON, and JSON that parsers read differently."""

NAMES = ["first", "first", "first", "second", "of-a-file", "nobody", "A", "viewer-of-file", "hook-of-a-file"]
KEYS = ["k" * 16, "l" * 16, f"{'b' * 32}-1", f"{'b' * 32}-2"]
ODD_NAMES = ["%66irst", "a%2Fb", "..", "%2e%2e", "%00", "x" * 300, "*", "first;x", "-", "first%0a"]
ODD_FIELDS: list[dict[str, str]] = [
    {"Content-Type": "text/plain"},
    {"Content-Type": 'application/json; charset="UTF-8"'},
    {"Content-Type": "application/json; charset=utf-7"},
    {"Content-Encoding": "gzip"},
    {"Expect": "100-continue"},
    {"Expect": "something"},
    {"X-HTTP-Method-Override": "DELETE", "X-Original-URL": f"{PREFIX}/tokens"},
    {"Cookie": f"token={TOKENS['admin']}", "X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    {"Accept": "text/html", "Accept-Encoding": "gzip, br", "If-None-Match": "*", "Range": "bytes=0-1"},
    {"Origin": "https://other.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    {"Host": "rebound.example"},
]


class Sent(NamedTuple):
    """A request. `match` "current" means the current ETag."""

    route: Route
    method: str
    path: str
    role: str
    body: bytes | None
    match: str | None
    fields: dict[str, str]


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """Draw a request of a route, of any role or none, with at most a few odd parts."""

    def rarely(usual: Any, odd: Any) -> Any:
        return draw(st.sampled_from(odd)) if draw(st.integers(0, 9)) == 0 else usual

    route = draw(st.sampled_from(ROUTES))
    method = rarely(route.method, ["HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND"])
    path = route.path
    for name in ("{id}", "{name}", "{key}"):
        path = path.replace(name, rarely(draw(st.sampled_from(KEYS if name == "{key}" else NAMES)), ODD_NAMES))
    path = rarely(path, [f"{path}/", f"/{path}", f"{path}/..", f"/..{path}", path.upper(), f"{path}%2F", f"/.{path}"])
    names = [*(route.query.model_fields if route.query else ()), *(["other"] if draw(st.integers(0, 9)) == 0 else [])]
    values = st.sampled_from(
        ["", "true", "ok", "1", "first:store", "basic", "%ff", "%ed%a0%80", "%0a", "first:store%0a"]
    )
    query = draw(st.lists(st.tuples(st.sampled_from(names), values), max_size=2)) if names else []
    path += "?" + "&".join(map("=".join, query)) if query else ""
    body = None
    if route.body:
        result = draw(bodies(route.body.__name__))
        if isinstance(result, dict) and "{" in route.path and draw(st.integers(0, 9)):
            result = {key: value for key, value in result.items() if key not in ("id", "name")}
        body = rarely(_plain, ODD)(json.dumps(result))
    match = draw(
        st.sampled_from(["current", "current", "current", None, '"1"', "*", 'W/"1"', '"99999999999999999999"'])
    )
    role = draw(st.sampled_from(["admin", *TOKENS]))
    # JSON is YAML.
    as_yaml = {"Accept": YAML, **({} if body is None else {"Content-Type": YAML})}
    fields = rarely(draw(st.sampled_from([{}, {}, as_yaml])), ODD_FIELDS)
    if route.needs_idempotency_key:
        fields = {**fields, "Idempotency-Key": rarely(draw(st.sampled_from(KEYS)), ["short", "*" * 20])}
    return Sent(
        route,
        method,
        path,
        rarely(role, ["", "wrong"]),
        body,
        match if route.conditional else None,
        fields,
    )


ALWAYS = frozenset({"content-type", "content-length", "date", "server", "cache-control", "x-content-type-options"})
"""Fields that any response may have; `Connection` says that what is left of a request is not read."""

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
ELSEWHERE = {
    **DOCUMENT["paths"][f"{PREFIX}/whoami"]["get"]["responses"],
    "404": {"content": PROBLEM},
    "405": {"content": PROBLEM},
}
"""Where there is no such operation."""


PATHS = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path)): item for path, item in DOCUMENT["paths"].items()}


def _operation(sent: Sent) -> Any:
    """Return the document's operation of a request. HEAD is GET without a body (RFC 9110 9.3.2)."""
    path = PREFIX + sent.path.partition("?")[0]
    result = [item for pattern, item in PATHS.items() if pattern.fullmatch(path)]
    return result[0].get("get" if sent.method == "HEAD" else sent.method.lower()) if result else None


def _check(response: ApiResponse, responses: Mapping[str, Any], *, body: bool) -> None:
    """Check status, media type, headers and body against the document."""
    assert str(response.status) in responses, response
    result = responses[str(response.status)]
    headers = {name.lower(): item for name, item in result.get("headers", {}).items()}
    own = {name.lower() for name in response.headers} - ALWAYS - {"connection"}
    # What refuses a method says which there are (RFC 9110 15.5.6).
    assert own <= headers.keys() | ({"allow"} if response.status == 405 else set()), response
    assert {name for name, item in headers.items() if item["required"]} <= own, response
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    content = result.get("content")
    if content is None:
        assert (response.body, response.headers["Content-Type"]) == (b"", None)
        return
    item = content[response.headers["Content-Type"]]
    if not body:
        assert response.body == b""
        return
    value = yaml.safe_load(response.body) if response.headers["Content-Type"] == YAML else response.json
    errors = list(Draft202012Validator({"components": DOCUMENT["components"], **item["schema"]}).iter_errors(value))
    assert errors == [], (errors[0].message, response)


@given(sent=requests())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large])
def test_every_response_is_in_the_document(api: Api, sent: Sent) -> None:
    """Never a 500 or a secret, and never more than the role permits."""
    route, match = sent.route, sent.match
    if match == "current":
        match = api.request("GET", sent.path.partition("?")[0]).headers.get("ETag")
    media = MERGE_PATCH if route.method == "PATCH" else JSON
    fields = {"Content-Type": media, **sent.fields} if sent.body is not None else sent.fields
    response = api.by(TOKENS.get(sent.role, sent.role)).request(
        sent.method, sent.path, sent.body, match=match, headers=fields if sent.role else {**fields, "Authorization": ""}
    )
    assert response.status < 500, (response, sent)
    assert CANARY.encode() not in response.body
    operation = _operation(sent)
    _check(response, ELSEWHERE if operation is None else operation["responses"], body=sent.method != "HEAD")
    anonymous = operation is not None and operation["x-sidekey-permission"] == "anonymous"
    if sent.role not in TOKENS and not anonymous:
        assert response.status in (401, 403, 421), (response, sent)
    elif anonymous:
        # Only pages of the console send the header that a log-in needs.
        assert response.status == 403 or sent.method != "POST", (response, sent)
    elif operation is not None and operation["x-sidekey-permission"] not in PERMISSIONS[sent.role]:  # type: ignore[index]
        assert response.status in (403, 421), (response, sent)
    elif response.status == 403:
        refused = any(text in str(response.body) for text in ("own_token", FORBIDDEN, "omit `who`"))
        assert refused or "Sec-Fetch-Site" in sent.fields, (response, sent)
