"""admin/console/form/fields.py: every key of every kind has a field that can say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sidekey.admin.api.schemas import components
from sidekey.admin.console.form.fields import Field, Reader, label_of
from sidekey.admin.console.form.forms import form_for
from sidekey.credentials.registry import KINDS


def fields_of(name: str) -> tuple[Field, ...]:
    return Reader(components()).fields(components()[name], "")


def settable(schema: Mapping[str, Any]) -> Iterator[str]:
    for name, each in schema["properties"].items():
        if not each.get("readOnly") and "const" not in each:
            yield name


@pytest.mark.parametrize("name", [*(kind.__name__ for kind in KINDS.values()), "IntegrationDocument"])
def test_every_key_has_a_field(name: str) -> None:
    """None is left to a box of JSON."""
    assert [each.key for each in fields_of(name)] == list(settable(components()[name]))


WIDGETS = {
    "description": "text",
    "tags": "lines",
    "endpoint_prefix": "lines",
    "allow_other_domains": "flag",
    "allowed_domains": "lines",
    "methods": "lines",
    "trusted_ca": "pem",
    "limits": "group",
    "source_address": "text",
    "client_certificate": "group",
    "add": "group",
    "redact_response": "flag",
    "test": "group",
}


def test_each_is_entered_as_what_it_is() -> None:
    """By the schema alone."""
    found = {each.key: each.widget for each in fields_of("IntegrationDocument")}
    assert {key: found[key] for key in WIDGETS} == WIDGETS
    oauth2 = {each.key: each for each in fields_of("OAuth2Settings")}
    assert (oauth2["grant"].widget, oauth2["grant"].choices[0]) == ("choice", "client_credentials")
    assert oauth2["client_secret"].widget == "secret"
    body = next(each for each in oauth2["token_request"].parts if each.key == "body")
    assert (body.widget, set(body.sources)) == ("rows", {"text", "number", "flag", "secret"})
    own, added = (
        fields_of("HeadersSettings"),
        next(each for each in fields_of("IntegrationDocument") if each.key == "add"),
    )
    for parts in ({each.key: each for each in own}, {each.key: each for each in added.parts}):
        for key, more in (("headers", ()), ("query", ()), ("body", ("number", "flag"))):
            field = parts[key]
            assert (field.widget, field.sources, field.prefixed) == ("rows", ("secret", "text", *more), True)
    signed = next(each for each in oauth2["assertion"].parts if each.key == "private_key")
    assert (signed.widget, signed.sources) == ("pem", ("secret",))
    key = next(each for each in fields_of("MtlsSettings") if each.key == "private_key")
    assert (key.widget, set(key.sources)) == ("pem", {"secret", "url"})


def test_a_new_kind_has_fields_for_whatever_its_schema_says() -> None:
    """Also for what is said in other words; what no widget is for is left as it is."""
    schema = {
        "required": ["account"],
        "properties": {
            "type": {"const": "new"},
            "account": {"type": "string", "description": "An `account`."},
            "attempts": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 3},
            "mode": {"enum": ["a", "b", None]},
            "key": {"$ref": "#/components/schemas/Secret"},
            "labels": {"additionalProperties": {"type": "string"}},
            "keys": {
                "anyOf": [
                    {"$ref": "#/components/schemas/Secret"},
                    {"type": "array", "items": {"$ref": "#/components/schemas/Secret"}},
                    {"type": "null"},
                ]
            },
            "body": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Value"}},
            "odd": {"type": "array", "items": {"type": "object"}},
        },
    }
    value = {"$ref": "#/components/schemas/Value"}
    ways = [{"type": "string"}, {"$ref": "#/components/schemas/Secret"}, {"type": "array", "items": value}]
    known = {**components(), "Value": {"anyOf": [*ways, {"type": "object", "additionalProperties": value}]}}
    found = Reader(known).fields(schema, "/auth")
    assert [(each.pointer, each.widget, each.required) for each in found] == [
        ("/auth/account", "text", True),
        ("/auth/attempts", "number", False),
        ("/auth/mode", "choice", False),
        ("/auth/key", "secret", False),
        ("/auth/labels", "rows", False),
        ("/auth/keys", "secrets", False),
        ("/auth/body", "tree", False),
    ]


def test_labels_are_words() -> None:
    assert [label_of(name) for name in ("client_id", "pin_base_url", "trusted_ca", "pem", "region")] == [
        "Client ID",
        "Pin base URL",
        "Trusted CA",
        "PEM",
        "Region",
    ]


def test_a_form_has_the_defaults_of_its_provider_and_asks_for_what_they_need() -> None:
    """The kind's own would be shown, and would hide the refresh token, without which the provider cannot be used."""
    form = form_for("oauth2", "acoustic-campaign")
    found = {each.key: each for each in form.fields}
    assert (found["grant"].default, found["client_authentication"].default) == ("refresh_token", "body")
    assert found["refresh_token_rotates"].default is False
    assert "refresh_token" in {each.key for each in form.first}
    assert "refresh_token" not in {each.key for each in form_for("oauth2").first}
    assert "key_passphrase" not in {each.key for each in form_for("oauth2", "google-service-account").first}
