"""Generate the OpenAPI 3.1 document from the routes and their models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydantic import BaseModel

import sidekey
from sidekey.api.errors import CODES, TYPE, Problem
from sidekey.api.messages import JSON, YAML
from sidekey.api.models import Body, Members
from sidekey.api.route import CONSOLE, IDEMPOTENCY_KEY, PREFIX, Route, needs_console, path_parameters
from sidekey.config.schema import DOCUMENT_VALUES, Schema, definitions
from sidekey.snapshot.admin import roles_with

_COMMON_CODES: Final = (
    "malformed",
    "unauthenticated",
    "forbidden",
    "store_denied",
    "misdirected",
    "internal_error",
    "store_unavailable",
)
_BODY_CODES: Final = ("too_large", "unsupported")

_CREATED: Final = 201
_LOCATION_TEXT: Final = "The path of the resource that was created."
_UNSUPPORTED: Final = 415
_RETRY_AFTER: Final = {"Retry-After": "Seconds until the request may be tried again."}
_PROBLEM_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"WWW-Authenticate": "The challenge of RFC 6750."},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
"""Descriptions of the headers of problems, by status."""


def codes_of(route: Route) -> tuple[str, ...]:
    """Return the problem codes of a route, in the order of `CODES`."""
    codes = [*_COMMON_CODES, *route.codes]
    codes += _BODY_CODES if route.body else ()
    codes += ["changed", "precondition_required"] if route.conditional else []
    return tuple(code for code in CODES if code in codes)


def document(routes: tuple[Route, ...]) -> Schema:
    """Build the OpenAPI document of these routes."""
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(f"{PREFIX}{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sidekey",
            "version": sidekey.__version__,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
            "description": "Integrations, presets, callers and operators' tokens of a Sidekey with a store. Every "
            "request needs an operator's token, or a session of the console. The response to a change comes when the "
            "change is committed, and in use in the process that the request was sent to; others follow within 2 "
            "seconds.",
        },
        "servers": [{"url": "/", "description": "The admin listener that serves this document."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": components(routes),
        },
    }


def components(routes: Iterable[Route]) -> dict[str, Schema]:
    """Return the schemas of all bodies, by the name of their model."""
    models = {model for route in routes for model in (route.body, route.response, route.creates) if model is not None}
    by_name = sorted(models, key=lambda model: model.__name__)
    schemas = definitions([*by_name, Problem, *DOCUMENT_VALUES], "body")
    return {name: {"title": name, **schema} for name, schema in schemas.items()}


def _operation(route: Route) -> Schema:
    operation: Schema = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"Roles: {', '.join(roles_with(route.permission))}.",
        "x-sidekey-permission": route.permission,
        "parameters": [*_parameters(route)],
        "responses": _responses(route),
    }
    if route.permission == "anonymous":
        operation["security"] = []
    if route.body is not None:
        content = {media: _content(route.body) for media in route.accepts}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: Route) -> Iterator[Schema]:
    for name in path_parameters(route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if route.query is not None:
        yield from _query_parameters(route.query)
    if needs_console(route):
        yield _header_parameter(CONSOLE, "`1`. A page of another site cannot send it.", required=True)
    if route.needs_idempotency_key:
        text = "A random key of the send. A repeated key returns the result of the first request, and sends nothing."
        yield _header_parameter("Idempotency-Key", text, required=True, pattern=f"^{IDEMPOTENCY_KEY}$")
    if route.conditional:
        text = "The `ETag` that the resource was read with, or `*` for any version."
        yield _header_parameter("If-Match", text, required=route.creates is None)
    if route.creates is not None:
        text = "`*` creates the resource; the response is 412 if it exists. Without it `If-Match` is required."
        yield _header_parameter("If-None-Match", text)
    if _has_etag(route) and route.method == "GET":
        text = "`ETag`s that the client has, or `*`: the response is 304 if its `ETag` is one of them."
        yield _header_parameter("If-None-Match", text)


def _query_parameters(query: type[Body]) -> Iterator[Schema]:
    schema_of_query = definitions([query], "body")[query.__name__]
    for name, schema in schema_of_query["properties"].items():
        parameter = {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}
        yield {**parameter, "required": True} if name in schema_of_query.get("required", ()) else parameter


def _responses(route: Route) -> Schema:
    success: Schema = {"description": "Success."}
    if route.response is not None:
        success["content"] = {JSON: _content(route.response)}
    if route.offers_yaml:
        text = "YAML." if route.response is None else "The `id` and the document, without read-only members."
        success.setdefault("content", {})[YAML] = {"schema": {"type": "object", "description": text}}
    if _has_etag(route):
        success["headers"] = {"ETag": _header("The value for `If-Match`; a resource without one is read-only.")}
    if route.status == _CREATED:
        success.setdefault("headers", {})["Location"] = _header(_LOCATION_TEXT, required=True)
    if route.sets_cookie:
        success.setdefault("headers", {})["Set-Cookie"] = _header("The cookie of the session.", required=True)
    responses = {str(route.status): success}
    if route.creates is not None:
        headers = {**success["headers"], "Location": _header(_LOCATION_TEXT, required=True)}
        responses[str(_CREATED)] = {
            "description": "Created.",
            "headers": headers,
            "content": {JSON: _content(route.creates)},
        }
    if _has_etag(route) and route.method == "GET":
        responses["304"] = {"description": "The client has this version.", "headers": success["headers"]}
    by_status: dict[int, list[str]] = {}
    for code in codes_of(route):
        by_status.setdefault(CODES[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = _problem(route, status, codes)
    return responses


def _problem(route: Route, status: int, codes: Sequence[str]) -> Schema:
    text = "; ".join(f"`{code}`: {CODES[code].title}" for code in codes)
    problem: Schema = {"description": f"{text}.", "content": {TYPE: _content(Problem)}}
    headers = {name: _header(text, required=True) for name, text in _PROBLEM_HEADERS.get(status, {}).items()}
    if "sending" in codes:
        # The other codes of its status do not ask the client to try again.
        headers["Retry-After"] = _header(_RETRY_AFTER["Retry-After"], required=True)
    if status == _UNSUPPORTED:
        name = "Accept-Patch" if route.method == "PATCH" else "Accept"
        headers[name] = _header("The media types that are accepted.", required=True)
    return {**problem, "headers": headers} if headers else problem


def _has_etag(route: Route) -> bool:
    return route.response is not None and issubclass(route.response, Members)


def _content(model: type[BaseModel]) -> Schema:
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}


def _header_parameter(name: str, description: str, *, required: bool = False, **schema: str) -> Schema:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _header(description: str, *, required: bool = False) -> Schema:
    return {"description": description, "required": required, "schema": {"type": "string"}}
