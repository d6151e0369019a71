"""api/openapi.py: the OpenAPI document is valid and complete."""

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

TRIALS = {"previewDraft", "testDraft", "testPreset", "previewPresetDraft", "testPresetDraft"}
"""Operations that need the role editor but change nothing."""


def references(node: Any) -> Iterator[str]:
    """Yield every reference in a document."""
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from references(item)


def test_every_schema_is_valid_and_its_references_resolve() -> None:
    """JSON Schema 2020-12, as in OpenAPI 3.1."""
    schemas = document(ROUTES)["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert {route.removeprefix("#/components/schemas/") for route in references(document(ROUTES))} <= schemas.keys()


def test_every_route_has_its_role_and_problems() -> None:
    paths = document(ROUTES)["paths"]
    operations = {
        (method.upper(), path): operation for path, methods in paths.items() for method, operation in methods.items()
    }
    assert len(operations) == len(ROUTES) == len({value["operationId"] for value in operations.values()})
    for route in ROUTES:
        operation = operations[route.method, f"/api/v1{route.path}"]
        assert operation["x-sidekey-permission"] == route.permission
        statuses = {str(CODES[code].status) for code in route.codes}
        assert statuses <= operation["responses"].keys()
        assert ("412" in operation["responses"]) is route.conditional
        assert ("requestBody" in operation) is bool(route.body)
        changes = route.permission in ("editor", "admin") and route.method != "GET"
        assert bool(route.writes) is bool(route.action) is (changes and route.name not in TRIALS)


def test_read_only_members_are_no_keys_of_the_document() -> None:
    """A response has both in resource object."""
    assert IntegrationMembers.model_fields.keys() & IntegrationSettings.model_fields.keys() == set()


def schemas_in(node: Any, *, names: bool = False) -> Iterator[Mapping[str, Any]]:
    """Yield every schema in a document. If `names` is true, the keys of the node are names of schemas."""
    if isinstance(node, Mapping):
        if not names:
            yield node
        for key, value in node.items():
            yield from schemas_in(value, names=not names and key in {"properties", "patternProperties"})
    elif isinstance(node, list):
        for item in node:
            yield from schemas_in(item)


def test_document_is_valid_openapi(viewer: Api) -> None:
    """Each default matches its schema."""
    # The import takes seconds, which each worker would spend at collection.
    from openapi_spec_validator import OpenAPIV31SpecValidator  # noqa: PLC0415

    OpenAPIV31SpecValidator(viewer.get("/openapi.json")).validate()


def test_redocly_finds_no_error(viewer: Api, tmp_path: Path) -> None:
    redocly = programs.require("redocly")
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(viewer.get("/openapi.json")))
    quiet = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    command = [redocly, "lint", "--extends=recommended", "--format=json", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["totals"]["errors"] == 0


def test_title_of_each_component_is_its_name(viewer: Api) -> None:
    """Client generators name classes by title, and drop a schema whose title is not unique."""
    schemas = viewer.get("/openapi.json")["components"]["schemas"]
    assert {"Integration", "Preset"} <= schemas.keys()
    titles = Counter(value["title"] for value in schemas_in(list(schemas.values())) if "title" in value)
    assert titles == Counter(schemas.keys())
    assert schemas["Problem"]["properties"]["title"] == {"type": "string"}


def test_server_is_the_listener_of_the_document(viewer: Api) -> None:
    body = viewer.get("/openapi.json")
    assert [server["url"] for server in body["servers"]] == ["/"]
    assert "/api/v1/integrations/{id}" in body["paths"]


def test_conditional_requests_are_described(viewer: Api) -> None:
    paths = viewer.get("/openapi.json")["paths"]
    resource, draft = paths["/api/v1/integrations/{id}"], paths["/api/v1/drafts/integration/preview"]

    def headers_of(operation: Mapping[str, Any]) -> dict[str, bool]:
        return {
            parameter["name"]: parameter["required"]
            for parameter in operation["parameters"]
            if parameter["in"] == "header"
        }

    assert headers_of(resource["get"]) == {"If-None-Match": False}
    assert headers_of(resource["put"]) == {"If-Match": False, "If-None-Match": False}
    assert headers_of(resource["patch"]) == headers_of(resource["delete"]) == {"If-Match": True}
    assert set(resource["get"]["responses"]["304"]["headers"]) == {"ETag"}
    assert set(resource["put"]["responses"]["201"]["headers"]) == {"ETag", "Location"}
    assert "headers" not in draft["post"]["responses"]["200"]
