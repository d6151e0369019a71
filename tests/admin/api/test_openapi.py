"""admin/api/openapi.py and schemas.py: the document says what is so, and a new kind is in it by its registry line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from sidekey.admin.api.documents import ABOUT
from sidekey.admin.api.openapi import document
from sidekey.admin.api.problems import CODES
from sidekey.admin.api.table import ROUTES
from sidekey.settings.models import IntegrationSettings

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
        assert operation["x-sidekey-role"] == route.role
        statuses = {str(CODES[code].status) for code in route.codes}
        assert statuses <= operation["responses"].keys()
        assert ("412" in operation["responses"]) is route.conditional
        assert ("requestBody" in operation) is bool(route.body)
        assert (
            bool(route.writes)
            is bool(route.action)
            is (route.role != "viewer" and route.name not in CHANGING_NOTHING and route.method != "GET")
        )


def test_nothing_said_about_an_integration_is_a_key_of_its_document() -> None:
    """Both are in one object."""
    assert ABOUT & IntegrationSettings.model_fields.keys() == set()
