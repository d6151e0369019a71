"""The schemas of the OpenAPI document accept what the models accept, except keys for files."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sidekey.api.openapi import components
from sidekey.api.routes import ROUTES
from support.api import Api
from support.key_edits import MTLS_OF_URLS
from support.stored import documents
from support.transfer import every_kind, lasting_chain

SCHEMAS = components(ROUTES)


def validator(name: str) -> Draft202012Validator:
    """Return a validator for one of the schemas."""
    return Draft202012Validator({"components": {"schemas": SCHEMAS}, "$ref": f"#/components/schemas/{name}"})


@pytest.mark.parametrize("name", documents())
def test_valid_documents_of_every_kind_match_the_schema(name: str) -> None:
    assert list(validator("NewIntegration").iter_errors({"id": "crm", **documents()[name]})) == []


SHOWN = {**every_kind(lasting_chain()), "mtls_of_urls": MTLS_OF_URLS}


@pytest.mark.parametrize("name", SHOWN)
def test_responses_of_every_kind_match_the_schema(editor: Api, name: str) -> None:
    shown = editor.create("/integrations", {"id": f"shown-{name}", **SHOWN[name]})
    assert list(validator("Integration").iter_errors(shown)) == []


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
def test_schema_has_no_keys_for_files(change: dict[str, Any]) -> None:
    """The schema also lacks permissions that only the config can grant."""
    good = {"id": "crm", "endpoint_prefix": "https://a.example", "auth": documents()["basic"]["auth"]}
    assert list(validator("NewIntegration").iter_errors(good)) == []
    assert list(validator("NewIntegration").iter_errors({**good, **change})) != []
