"""admin/api/openapi.py and schemas.py: the document says what is so, and a new kind is in it by its registry line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from admin.api.conftest import Running
from sidekey.admin.api import schemas
from sidekey.admin.api.documents import ABOUT
from sidekey.admin.api.openapi import document
from sidekey.admin.api.problems import CODES
from sidekey.admin.api.table import ROUTES
from sidekey.credentials.basic import BasicSettings
from sidekey.credentials.registry import KINDS
from sidekey.settings.models import IntegrationSettings
from support.api import Api
from support.stored import documents


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


def validator(name: str) -> Draft202012Validator:
    """Judges by a schema of the document."""
    return Draft202012Validator({"components": document(ROUTES)["components"], "$ref": f"#/components/schemas/{name}"})


def test_the_document_is_served(api: Api) -> None:
    """As it is made."""
    assert api.get("/openapi.json") == document(ROUTES)


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
            is (route.role != "viewer" and route.name != "testDraft" and route.method != "GET")
        )


def test_nothing_said_about_an_integration_is_a_key_of_its_document() -> None:
    """Both are in one object."""
    assert ABOUT & IntegrationSettings.model_fields.keys() == set()


@pytest.mark.parametrize("name", documents())
def test_documents_of_every_kind_are_what_the_schema_says(name: str) -> None:
    """What operators may send, as what the models take."""
    assert list(validator("NewIntegration").iter_errors({"id": "crm", **documents()[name]})) == []


@pytest.mark.parametrize(
    "change",
    [
        {"auth": {"type": "basic", "username": "a", "password": {"file": "x"}}},
        {"auth": {"type": "basic", "username": "a", "password": "x"}},
        {"auth": {"type": "basic", "username": {"env": "X"}, "password": {"value": "x"}}},
        {"trusted_ca": {"file": "x"}},
        {"allow_private": []},
        {"endpoint_prefix": {"file": "x"}},
    ],
)
def test_what_only_a_file_may_say_is_not_in_the_schema(change: dict[str, Any]) -> None:
    """References to files and variables, and what only operators of the machine allow."""
    good = {"id": "crm", "endpoint_prefix": "https://a.example", "auth": documents()["basic"]["auth"]}
    assert list(validator("NewIntegration").iter_errors(good)) == []
    assert list(validator("NewIntegration").iter_errors({**good, **change})) != []


def test_a_certificate_that_was_read_is_what_the_schema_says() -> None:
    """And no secret."""
    auth = {**documents()["mtls"]["auth"], "certificate": {"set": True, "subject": "a", "issuer": "b"}}
    assert list(validator("NewIntegration").iter_errors({**documents()["mtls"], "id": "x", "auth": auth})) == []


def test_kinds_and_providers_are_told_for_forms(api: Api, running: Running) -> None:
    """Every kind with the schema of its `auth`, every profile with what it asks for."""
    del running
    kinds = api.get("/kinds")
    assert [each["kind"] for each in kinds["items"]] == list(KINDS)
    basic = kinds["items"][0]
    assert basic["schema"]["properties"]["password"]["$ref"] == "#/components/schemas/Secret"
    assert {each.removeprefix("#/components/schemas/") for each in references(kinds)} <= kinds["schemas"].keys()
    providers = {each["provider"]: each for each in api.get("/providers")["items"]}
    assert providers["commercetools"]["kind"] == "oauth2"
    assert providers["commercetools"]["parameters"][0]["name"] == "region"


class PinnedSettings(BasicSettings):
    """A kind that only this test has."""

    type: Literal["pinned"] = Field(description="The kind of this test.")  # type: ignore[assignment]


def test_a_new_kind_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the API names a kind: what the registry has is in every schema."""
    definition = PinnedSettings.model_json_schema()
    config = {**schemas.config_schema()}
    config["$defs"] = {**config["$defs"], "PinnedSettings": definition}
    integration = dict(config["$defs"]["IntegrationSettings"])
    auth = dict(integration["properties"]["auth"])
    auth["oneOf"] = [*auth["oneOf"], {"$ref": "#/$defs/PinnedSettings"}]
    integration["properties"] = {**integration["properties"], "auth": auth}
    config["$defs"]["IntegrationSettings"] = integration
    monkeypatch.setattr(schemas, "config_schema", lambda: config)
    monkeypatch.setitem(KINDS, "pinned", PinnedSettings)
    schemas.components.cache_clear()
    try:
        found = schemas.components()
    finally:
        schemas.components.cache_clear()
    assert found["PinnedSettings"]["properties"]["password"]["$ref"] == "#/components/schemas/Secret"
    assert {"$ref": "#/components/schemas/PinnedSettings"} in found["NewIntegration"]["properties"]["auth"]["oneOf"]
