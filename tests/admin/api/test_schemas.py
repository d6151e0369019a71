"""admin/api/schemas.py: what a stored document may say, by the models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sidekey.admin.api import schemas
from support.stored import documents


def validator(name: str) -> Draft202012Validator:
    """Judges by one of the schemas."""
    return Draft202012Validator(
        {"components": {"schemas": schemas.components()}, "$ref": f"#/components/schemas/{name}"}
    )


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


def test_the_schemas_are_json() -> None:
    """Also where a key has nothing that a stored document may say."""
    assert json.loads(json.dumps(schemas.components())) == schemas.components()
