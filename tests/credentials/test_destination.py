"""Destinations of stored secrets: the keys that count, and their canonical form."""

from __future__ import annotations

import json
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, Field, TypeAdapter, create_model

from sidekey.config.models import IntegrationLimits, IntegrationSettings, TestSettings
from sidekey.config.stored.document import with_new_ids
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.context import Context
from sidekey.credentials.destination import (
    SAFE_TO_CHANGE,
    ComparedAs,
    Json,
    TiedToSecret,
    destination_of,
    keys_of,
    references_in,
    tied_secrets,
)
from sidekey.credentials.fields import Reference
from sidekey.credentials.registry import KINDS, AuthSettings
from support.oauth import signer
from support.stored import BASIC, HEADERS, OAUTH2, RESPONSYS, beside, destination, harmless, jwt_bearer, mtls

TEXT = Reference("text", "public")
STORED = Reference("stored", "s_1")


class Inner(BaseModel):
    model_config = {"arbitrary_types_allowed": True}

    public: Annotated[str, SAFE_TO_CHANGE, TiedToSecret(("secret",))] = ""
    secret: Reference | None = None


class Outer(BaseModel):
    model_config = {"arbitrary_types_allowed": True}

    kind: str
    where: Annotated[str, ComparedAs(str.lower)] = "there"
    inner: Inner = Inner()
    many: dict[str, Reference] = Field(default_factory=dict)
    number: int = Field(default=1, alias="count")
    further: list[str] = []
    off: str | None = "on"


class Listing(BaseModel):
    model_config = {"arbitrary_types_allowed": True}

    keys: Any = None
    tree: Any = None


def test_key_counts_unless_it_is_safe_to_change() -> None:
    """Secrets do not count. An omitted key is not part of the destination, so a new key changes none."""
    assert destination_of(Outer(kind="a")) == {"kind": "a"}
    settings = Outer(kind="a", inner=Inner(public="x", secret=STORED), count=2, further=["b"], where="THERE")
    assert destination_of(settings) == {"kind": "a", "count": 2, "further": ["b"]}
    assert destination_of(Outer(kind="a", many={"x": STORED, "y": TEXT})) == {
        "kind": "a",
        "many": {"x": {}, "y": "public"},
    }
    assert destination_of(Outer(kind="a", inner=Inner(secret=TEXT))) == {"kind": "a", "inner": {"secret": "public"}}
    # What is off is no default of another kind.
    assert destination_of(Outer(kind="a", off=None)) == {"kind": "a", "off": None}


def test_references_and_tied_values_have_their_locations() -> None:
    settings = Outer(kind="a", inner=Inner(public="x", secret=STORED), many={"y": TEXT})
    assert dict(references_in(settings)) == {("inner", "secret"): STORED, ("many", "y"): TEXT}
    assert list(tied_secrets(settings)) == [(("inner", "public"), "secret")]
    assert [key.name for key in keys_of(Outer)] == ["kind", "where", "inner", "many", "count", "further", "off"]


def test_list_of_secrets_counts_as_one() -> None:
    """An editor may add, move and remove each secret. Public values in the list count in their order."""
    other = Reference("stored", "s_2")
    for secrets in ([STORED], [STORED, other], [other, STORED], (STORED, other)):
        assert destination_of(Listing(keys=secrets)) == destination_of(Listing(keys=STORED)) == {}
        assert destination_of(Listing(tree={"a": secrets})) == destination_of(Listing(tree={"a": STORED}))
    assert destination_of(Listing(tree={"a": [STORED, "x", other, "y", {"z": STORED}]})) == {
        "tree": {"a": ["x", "y", {"z": {}}]}
    }
    assert destination_of(Listing(tree={"a": []})) == {"tree": {"a": []}}
    assert dict(references_in(Listing(keys=(STORED, other)))) == {("keys", 0): STORED, ("keys", 1): other}


def test_keys_that_every_integration_may_change_freely() -> None:
    """After any other change, the editor must enter the secrets again."""
    assert harmless(IntegrationSettings) == {"title", "description", "tags", "methods", "upgrade"}
    assert harmless(IntegrationLimits) == {"in_flight"}
    assert harmless(TestSettings) == {"method", "path"}
    assert harmless(CertificateSettings) == {"certificate", "allow_private_ca", "refresh"}


def test_canonical_forms_do_not_change() -> None:
    """The store authenticates them with every secret: another form would make all of them unreadable."""
    assert destination(BASIC) == {"endpoint_prefix": ["https://api.example.com/v1"], "auth": {"type": "basic"}}
    assert destination(HEADERS) == {"endpoint_prefix": ["https://api.example.com/v1"], "auth": {"type": "headers"}}
    assert destination(OAUTH2) == {
        "auth": {
            "type": "oauth2",
            "token_endpoint": "https://auth.example.com/token",
            "token_request": {"body": {"scope": "read", "key": {}}},
        }
    }
    assert destination(jwt_bearer()) == {
        "auth": {
            "type": "oauth2",
            "token_endpoint": "https://auth.example.com/token",
            "grant": {"type": "jwt_bearer", "subject": "ann@example.com"},
        }
    }
    assert destination(RESPONSYS) == {"auth": {"type": "responsys", "login_endpoint": "https://login2.responsys.net"}}
    assert destination(mtls()) == {"endpoint_prefix": ["https://api.example.com/v1"], "auth": {"type": "mtls"}}
    assert destination(beside()) == destination(BASIC)
    wide = {
        "endpoint_prefix": ["https://b.example.com/", "https://a.example.com"],
        "allow_other_domains": True,
        "allowed_domains": ["https://*.example.com"],
        "redact_response": True,
        "trusted_ca": "system",
        "source_address": "127.0.0.1",
        "auth": {
            "type": "oauth2",
            "token_endpoint": "https://auth.example.com",
            "client_id": "id",
            "client_secret": {"value": "x"},
            "client_authentication": "body",
            "token_placement": {"in": "header", "name": "X-Token", "scheme": ""},
            "token_response": {"access_token": "token", "base_url": "url", "pin_base_url": True},
        },
    }
    assert destination(wide) == {
        "endpoint_prefix": ["https://a.example.com", "https://b.example.com"],
        "allow_other_domains": True,
        "allowed_domains": ["https://*.example.com"],
        "redact_response": True,
        "trusted_ca": "system",
        "source_address": "127.0.0.1",
        "auth": {
            "type": "oauth2",
            "token_endpoint": "https://auth.example.com/",
            "client_authentication": {"type": "body"},
            "token_placement": ["header", "x-token", ""],
            "token_response": {"access_token": "token", "base_url": "url", "pin_base_url": True},
        },
    }


Member = tuple[type[BaseModel], str]
"""A model of a union, and its tag."""


def unions(model: type[BaseModel], result: dict[str, list[Member]]) -> dict[str, list[Member]]:
    """Return the members of every union in a stored document."""
    for name, field in model.model_fields.items():
        key, members = f"{model.__name__}.{name}", sorted(models_of(field.annotation), key=lambda item: item.__name__)
        if key not in result:
            result[key] = [(item, tag) for item in members for tag in tags_of(item)] if len(members) > 1 else []
            for item in members:
                unions(item, result)
    return result


def models_of(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set().union(*map(models_of, get_args(annotation)))


def tags_of(model: type[BaseModel]) -> list[str]:
    return [str(tag) for tag in get_args(model.model_fields["type"].annotation)]


UNIONS = {key: members for key, members in unions(IntegrationSettings, {}).items() if members}


def test_every_union_is_covered() -> None:
    assert UNIONS.keys() == {
        "IntegrationSettings.auth",
        "LoginSettings.auth",
        "OAuth2Settings.client_authentication",
        "OAuth2Settings.grant",
    }
    assert {tag for _, tag in UNIONS["IntegrationSettings.auth"]} == KINDS.keys()


def defaults(model: type[BaseModel], result: dict[str, Json]) -> dict[str, Json]:
    """Collect the default of every key that counts, including those of nested models."""
    for key in keys_of(model):
        field = model.model_fields[key.attribute]
        if not key.safe_to_change:
            name = f"{model.__name__}.{key.name}"
            if name not in result:
                result[name] = key.canonical_default
                for item in models_of(field.annotation):
                    defaults(item, result)
    return result


DEFAULTS: dict[str, Json] = {
    "ClientSecretJwtSettings.algorithm": "HS256",
    "IntegrationSettings.allow_other_domains": False,
    "IntegrationSettings.redact_response": False,
    "JwtAuthentication.secret_encoding": "text",
    "JwtAuthentication.token_placement": ["header", "authorization", "bearer"],
    "JwtBearerSettings.algorithm": "RS256",
    "TokenExchangeAuthentication.subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "TokenExchangeSettings.subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "JwtSettings.secret_encoding": "text",
    "JwtSettings.token_placement": ["header", "authorization", "bearer"],
    "LoginSettings.auth": {"type": "none"},
    "LoginSettings.format": "json",
    "LoginSettings.method": "POST",
    "OAuth2Settings.client_authentication": {"type": "header"},
    "OAuth2Settings.grant": {"type": "client_credentials"},
    "OAuth2Settings.token_placement": ["header", "authorization", "bearer"],
    "PrivateKeyJwtSettings.algorithm": "RS256",
    "ProxySettings.resolve": "sidekey",
    "ResponsysSettings.path_prefix": "/rest/api/v1.3",
    "SessionSettings.placement": ["header", "authorization", "bearer"],
    "TokenRequestSettings.format": "form",
    "TokenRequestSettings.method": "POST",
    "TokenResponseSettings.access_token": "access_token",
    "TokenResponseSettings.pin_base_url": False,
    "WebIdentitySettings.session_name": "sidekey",
    "ConfiguredField.prefix": "",
    "ConfiguredHeader.prefix": "",
    "ConfiguredValue.prefix": "",
}
"""The defaults of keys that count, but for those that are nothing."""


def test_defaults_of_keys_that_count_do_not_change() -> None:
    """A destination omits defaults: after a change, stored secrets would be sent in another way."""
    result = defaults(IntegrationSettings, {})
    assert {name: default for name, default in result.items() if default not in (None, {}, [])} == DEFAULTS


@pytest.mark.parametrize("key", UNIONS)
def test_two_members_of_a_union_have_different_destinations(key: str) -> None:
    """A secret entered for one member is not sent by another one, even if all other keys are equal."""

    def form(model: type[BaseModel], tag: str) -> Json:
        # Of the tag alone: other keys could only make a difference.
        field = model.model_fields["type"]
        fields: Any = {"type": (field.annotation, field)}
        return destination_of(create_model("Tag", **fields).model_construct(type=tag))

    forms = [form(*member) for member in UNIONS[key]]
    assert forms == [{"type": tag} for _, tag in UNIONS[key]]
    assert len({tag for _, tag in UNIONS[key]}) == len(forms)


GRANTS: dict[str, dict[str, Any]] = {
    "client_credentials": {},
    "refresh_token": {"refresh_token": {"value": "x"}},
    "password": {"username": {"value": "x"}, "password": {"value": "x"}},
    "jwt_bearer": {"private_key": {"value": signer().private_pem.decode()}},
    "custom": {"grant_type": "own"},
}
METHODS: dict[str, dict[str, Any]] = {
    "header": {},
    "body": {},
    "query": {},
    "tls_client_auth": {},
    "private_key_jwt": {"private_key": {"value": signer().private_pem.decode()}},
    "client_secret_jwt": {},
}


@pytest.mark.parametrize(("key", "members"), [("grant", GRANTS), ("client_authentication", METHODS)])
def test_each_member_of_a_union_has_its_own_canonical_form(key: str, members: dict[str, dict[str, Any]]) -> None:
    def form(member: object) -> str:
        adapter: TypeAdapter[Any] = TypeAdapter(AuthSettings)
        auth = {**OAUTH2["auth"], key: member}
        return json.dumps(
            destination_of(adapter.validate_python(with_new_ids({"auth": auth})["auth"], context=Context("body")))
        )

    forms = {tag: form({"type": tag, **more}) for tag, more in members.items()}
    assert len(set(forms.values())) == len(forms)
    assert all(form(tag) == forms[tag] for tag, more in members.items() if not more)
