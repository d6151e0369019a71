"""api/openapi.py and schemas.py: the document says what is so, and a new kind is in it by its registry line."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from sidekey.api.errors import CODES
from sidekey.api.handlers.integrations import IntegrationMembers
from sidekey.api.openapi import document
from sidekey.api.routes import ROUTES
from sidekey.config.models import IntegrationSettings
from support import programs
from support.api import Api

CHANGING_NOTHING = {"previewDraft", "testDraft", "testPreset", "previewPresetDraft", "testPresetDraft"}
"""Trials that are for editors."""


def references(node: Any) -> Iterator[str]:
    """Every reference of a document."""
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list | tuple):
        for each in node:
            yield from references(each)


def test_every_schema_is_one_and_refers_to_what_is_there() -> None:
    """JSON Schema 2020-12, which OpenAPI 3.1 takes."""
    found = document(ROUTES)["components"]["schemas"]
    for schema in found.values():
        Draft202012Validator.check_schema(schema)
    assert {each.removeprefix("#/components/schemas/") for each in references(document(ROUTES))} <= found.keys()


def test_every_route_is_there_with_its_role_and_its_problems() -> None:
    """Once each; operation IDs are unique."""
    paths = document(ROUTES)["paths"]
    operations = {
        (method.upper(), path): operation for path, methods in paths.items() for method, operation in methods.items()
    }
    assert len(operations) == len(ROUTES) == len({each["operationId"] for each in operations.values()})
    for route in ROUTES:
        operation = operations[route.method, f"/api/v1{route.path}"]
        assert operation["x-sidekey-permission"] == route.permission
        statuses = {str(CODES[code].status) for code in route.codes}
        assert statuses <= operation["responses"].keys()
        assert ("412" in operation["responses"]) is route.conditional
        assert ("requestBody" in operation) is bool(route.body)
        changes = route.permission in ("editor", "admin") and route.method != "GET"
        assert bool(route.writes) is bool(route.action) is (changes and route.name not in CHANGING_NOTHING)


def test_nothing_said_about_an_integration_is_a_key_of_its_document() -> None:
    """Both are in one object."""
    assert IntegrationMembers.model_fields.keys() & IntegrationSettings.model_fields.keys() == set()


def schemas_in(node: Any, *, names: bool = False) -> Iterator[Mapping[str, Any]]:
    """Every schema of a document; `names`: the node has schemas by names."""
    if isinstance(node, Mapping):
        if not names:
            yield node
        for key, each in node.items():
            yield from schemas_in(each, names=not names and key in {"properties", "patternProperties"})
    elif isinstance(node, list):
        for each in node:
            yield from schemas_in(each)


def test_the_document_is_valid_openapi(viewer: Api) -> None:
    """Each default is a value of its own schema, too."""
    # Its grammars take seconds, which each worker would spend to collect this module.
    from openapi_spec_validator import OpenAPIV31SpecValidator  # noqa: PLC0415

    OpenAPIV31SpecValidator(viewer.get("/openapi.json")).validate()


def test_redocly_finds_no_error(viewer: Api, tmp_path: Path) -> None:
    redocly = programs.require("redocly")
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(viewer.get("/openapi.json")))
    quiet = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    command = [redocly, "lint", "--extends=recommended", "--format=json", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout)["totals"]["errors"] == 0


def test_each_title_is_the_name_of_its_component(viewer: Api) -> None:
    """Generators name classes by titles, and drop every schema whose name is taken."""
    found = viewer.get("/openapi.json")["components"]["schemas"]
    assert {"Integration", "Preset"} <= found.keys()
    titles = Counter(each["title"] for each in schemas_in(list(found.values())) if "title" in each)
    assert titles == Counter(found.keys())
    assert found["Problem"]["properties"]["title"] == {"type": "string"}


def test_paths_are_below_the_listener_that_serves_the_document(viewer: Api) -> None:
    found = viewer.get("/openapi.json")
    assert [each["url"] for each in found["servers"]] == ["/"]
    assert "/api/v1/integrations/{id}" in found["paths"]


def test_conditional_requests_are_described(viewer: Api) -> None:
    paths = viewer.get("/openapi.json")["paths"]
    one, draft = paths["/api/v1/integrations/{id}"], paths["/api/v1/drafts/integration/preview"]

    def headers_of(operation: Mapping[str, Any]) -> dict[str, bool]:
        return {each["name"]: each["required"] for each in operation["parameters"] if each["in"] == "header"}

    assert headers_of(one["get"]) == {"If-None-Match": False}
    assert headers_of(one["put"]) == {"If-Match": False, "If-None-Match": False}
    assert headers_of(one["patch"]) == headers_of(one["delete"]) == {"If-Match": True}
    assert set(one["get"]["responses"]["304"]["headers"]) == {"ETag"}
    assert set(one["put"]["responses"]["201"]["headers"]) == {"ETag", "Location"}
    assert "headers" not in draft["post"]["responses"]["200"]
