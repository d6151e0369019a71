"""The schemas of the OpenAPI document accept what the models accept, without what only a file may contain."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sidekey.admin.api.openapi import components
from sidekey.admin.api.routes import ROUTES
from support.stored import documents

SCHEMAS = components(ROUTES)


def validator(name: str) -> Draft202012Validator:
    """Validate by one of the schemas."""
    return Draft202012Validator({"components": {"schemas": SCHEMAS}, "$ref": f"#/components/schemas/{name}"})


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
        {"auth": {**documents()["aws_sigv4"]["auth"], "sts_endpoint": "https://sts.example.com"}},
        {"auth": {**documents()["aws_sigv4"]["auth"], "web_identity": {"role_arn": "x", "token": {"file": "x"}}}},
    ],
)
def test_what_only_a_file_may_say_is_not_in_the_schema(change: dict[str, Any]) -> None:
    """References to files and variables, and what only operators of the machine allow."""
    good = {"id": "crm", "endpoint_prefix": "https://a.example", "auth": documents()["basic"]["auth"]}
    assert list(validator("NewIntegration").iter_errors(good)) == []
    assert list(validator("NewIntegration").iter_errors({**good, **change})) != []
