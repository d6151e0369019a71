"""The OpenAPI 3.1 document of the API: made of the table of routes and of the models, so that it says what is so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sidekey
from sidekey.admin.api.answer import YAML
from sidekey.admin.api.problems import CODES, TYPE
from sidekey.admin.api.route import JSON, PREFIX, Route
from sidekey.admin.api.schemas import components, reference

_ALWAYS: Final = (
    "malformed",
    "unauthenticated",
    "forbidden",
    "store_denied",
    "misdirected",
    "internal_error",
    "store_unavailable",
)
_NAMED: Final = frozenset({"properties", "patternProperties"})
"""Keywords of JSON Schema that hold schemas by names, of which one may be `title`."""
_OF_BODIES: Final = ("too_large", "unsupported")


_CREATED: Final = 201
_LOCATION: Final = "The path of what was made."
_UNSUPPORTED: Final = 415
_LATER: Final = {"Retry-After": "Seconds until it may be tried again."}
_OF_STATUS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"WWW-Authenticate": "The challenge of RFC 6750."},
    429: _LATER,
    503: _LATER,
}
"""What problems of a status have in their headers."""


def codes_of(route: Route) -> tuple[str, ...]:
    """The problems that a route may respond with."""
    # Pages of other sites are refused everywhere, so that a route which refuses nobody by role may say so, too.
    found = [*_ALWAYS, *route.codes]
    found += _OF_BODIES if route.body else ()
    found += ["changed", "precondition_required"] if route.conditional else []
    return tuple(code for code in CODES if code in found)


def document(routes: tuple[Route, ...]) -> Mapping[str, Any]:
    """The document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(f"{PREFIX}{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sidekey",
            "version": sidekey.__version__,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            "description": "Integrations, presets, callers and operators' tokens of a Sidekey with a store. Every "
            "request needs an operator's token. A write returns once it is committed and in use in the process that "
            "it was sent to; others follow within 2 seconds.",
        },
        "servers": [{"url": "/", "description": "The admin listener that serves this document."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: {"title": name, **_untitled(schema)} for name, schema in components().items()},
        },
    }


def _untitled(node: Any) -> Any:
    """Remove titles: generators name classes by them, and those of the config's schema repeat."""
    if isinstance(node, list):
        return [_untitled(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: {name: _untitled(each) for name, each in value.items()} if key in _NAMED else _untitled(value)
        for key, value in node.items()
        if key != "title"
    }


def _operation(route: Route) -> dict[str, Any]:
    names = [each[1:-1] for each in route.segments if each.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    parameters += [
        {
            "name": name,
            "in": "query",
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in route.query.items()
    ]
    if route.conditional:
        text = "The `ETag` that it was read with, or `*` for whatever is there."
        parameters.append(_header_parameter("If-Match", text, required=not route.creates))
    if route.creates:
        text = "`*` creates it, and is 412 where it exists; without it `If-Match` is required."
        parameters.append(_header_parameter("If-None-Match", text))
    if _has_etag(route) and route.method == "GET":
        text = "`ETag`s that the client has, or `*`: a response that would have one of them is 304."
        parameters.append(_header_parameter("If-None-Match", text))
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"Needs the role {route.role}, or a higher one.",
        "x-sidekey-role": route.role,
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.body:
        content = {media: {"schema": reference(route.body)} for media in route.accepts}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _responses(route: Route) -> dict[str, Any]:
    good: dict[str, Any] = {"description": "It is done."}
    if route.gives:
        good = {"description": "See the schema.", "content": {JSON: {"schema": reference(route.gives)}}}
    if route.gives_yaml:
        text = "The `id` and the document, without read-only members."
        good["content"][YAML] = {"schema": {"type": "object", "description": text}}
    if _has_etag(route):
        good["headers"] = {"ETag": _header("What a change must name as `If-Match`; without one it is read-only.")}
    if route.status == _CREATED:
        good["headers"]["Location"] = _header(_LOCATION, required=True)
    by_status: dict[int, list[str]] = {}
    for code in codes_of(route):
        by_status.setdefault(CODES[code].status, []).append(code)
    found = {str(route.status): good}
    if route.creates:
        headers = {**good["headers"], "Location": _header(_LOCATION, required=True)}
        content = {JSON: {"schema": reference(route.creates)}}
        found[str(_CREATED)] = {"description": "It is created.", "headers": headers, "content": content}
    if _has_etag(route) and route.method == "GET":
        found["304"] = {"description": "The client has it already.", "headers": good["headers"]}
    for status, codes in sorted(by_status.items()):
        text = "; ".join(f"`{code}`: {CODES[code].title}" for code in codes)
        found[str(status)] = {"description": f"{text}.", "content": {TYPE: {"schema": reference("Problem")}}}
        headers = {name: _header(text, required=True) for name, text in _OF_STATUS.get(status, {}).items()}
        if status == _UNSUPPORTED:
            name = "Accept-Patch" if route.method == "PATCH" else "Accept"
            headers = {name: _header("The media types that are taken.", required=True)}
        if headers:
            found[str(status)]["headers"] = headers
    return found


def _has_etag(route: Route) -> bool:
    """Return True if responses of a route have an `ETag`; a draft has none, whatever version it would replace."""
    is_draft = route.path.startswith("/drafts/")
    return bool(route.gives) and not is_draft and "version" in components()[route.gives].get("properties", {})


def _header_parameter(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


def _header(description: str, *, required: bool = False) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"}}
