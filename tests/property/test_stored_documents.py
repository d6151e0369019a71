"""A stored secret opens only for its original destination, after any change of its document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, create_model

from sidekey.config.models import IntegrationLimits, IntegrationSettings, TestSettings
from sidekey.config.stored.document import merge_patch, with_values
from sidekey.config.stored.rows import document_for_api
from sidekey.config.stored.transfer import loc_of_pointer
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.destination import accepted_destinations, destination_of, keys_of
from sidekey.credentials.injection import AddedSettings
from sidekey.credentials.oauth2.client_authentication import (
    ClientSecretJwtSettings,
    HeaderSettings,
    PrivateKeyJwtSettings,
)
from sidekey.credentials.oauth2.grant_types import (
    CustomGrantSettings,
    JwtBearerSettings,
    PasswordSettings,
    RefreshTokenSettings,
)
from sidekey.credentials.oauth2.token_request import TokenRequestSettings
from sidekey.credentials.oauth2.token_response import TokenResponseSettings
from sidekey.credentials.registry import KINDS
from sidekey.credentials.session import LoginSettings, SessionTokenSettings
from sidekey.credentials.signatures.settings import SignatureSectionSettings
from support.key_edits import EDITS
from support.stored import (
    BASIC,
    CANARY,
    assessed,
    beside,
    copied,
    destination,
    documents,
    draft,
    ids,
    kept_pointers,
    open_secrets,
    patched,
    previous_row,
    settings_in,
    stored,
)

NESTED: dict[str, type[BaseModel]] = {
    "limits": IntegrationLimits,
    "test": TestSettings,
    "client_certificate": CertificateSettings,
    "add": AddedSettings,
    "signature": SignatureSectionSettings,
    "auth.token_request": TokenRequestSettings,
    "auth.token_response": TokenResponseSettings,
    "auth.login": LoginSettings,
    "auth.token": SessionTokenSettings,
}
"""Keys whose mapping has keys of its own."""

UNIONS: dict[str, tuple[type[BaseModel], ...]] = {
    "auth.grant": (CustomGrantSettings, JwtBearerSettings, PasswordSettings, RefreshTokenSettings),
    "auth.client_authentication": (ClientSecretJwtSettings, HeaderSettings, PrivateKeyJwtSettings),
}
"""Keys whose mapping has the keys of one of several models, with the `type` that says which."""


def kinds() -> Iterator[tuple[type[BaseModel], str]]:
    """Return each model of stored documents, with its key in the destination."""
    yield IntegrationSettings, ""
    yield from ((kind, "auth") for kind in KINDS.values())
    yield from ((model, path) for path, model in NESTED.items())
    yield from ((member, path) for path, members in UNIONS.items() for member in members)


@pytest.mark.parametrize(("model", "where"), tuple(kinds()), ids=lambda item: getattr(item, "__name__", item))
def test_added_key_changes_the_destination_only_if_it_is_set(model: type[BaseModel], where: str) -> None:
    """In any kind and section, even if its author did not think of stored secrets."""
    later = create_model(f"Later{model.__name__}", __base__=model, added=(str, "as before"))
    before = {key.name for key in keys_of(model) if not key.safe_to_change}
    assert {key.name for key in keys_of(later) if not key.safe_to_change} == {*before, "added"}
    result = [instance for settings in settings_of_documents() if (instance := at(settings, where))]
    required = dict.fromkeys(name for name, field in model.model_fields.items() if field.is_required())
    result = [instance for instance in result if type(instance) is model] or [model.model_construct(**required)]
    for instance in result:
        values = {name: getattr(instance, name) for name in type(instance).model_fields}
        assert destination_of(later.model_construct(**values)) == destination_of(instance)
        other = destination_of(later.model_construct(**values, added="elsewhere"))
        assert other == {**destination_of(instance), "added": "elsewhere"}


@cache
def settings_of_documents() -> tuple[IntegrationSettings, ...]:
    """Return the parsed settings of one saved document of each kind. Callers must not change them."""
    return tuple(settings_in(draft(document).saved.text()) for document in documents().values())


def at(model: Any, where: str) -> Any:
    """Return the value at dotted keys."""
    for name in filter(None, where.split(".")):
        model = getattr(model, name, None)
    return model


DEFAULTS: dict[str, Any] = {
    "allow_other_domains": False,
    "allow_private": [],
    "allowed_domains": [],
    "endpoint_prefix": [],
    "pass_headers": [],
    "redact_response": False,
    "auth.client_authentication": {"type": "header"},
    "auth.client_authentication.ClientSecretJwtSettings.algorithm": "HS256",
    "auth.client_authentication.PrivateKeyJwtSettings.algorithm": "RS256",
    "auth.grant": {"type": "client_credentials"},
    "auth.grant.JwtBearerSettings.algorithm": "RS256",
    "auth.placement": ["header", "authorization", "bearer"],
    "auth.login.auth": {"type": "none"},
    "auth.login.format": "json",
    "auth.login.method": "POST",
    "auth.secret_encoding": "text",
    "auth.path_prefix": "/rest/api/v1.3",
    "auth.token_placement": ["header", "authorization", "bearer"],
    "auth.token_request.format": "form",
    "auth.token_request.method": "POST",
    "auth.token_response.access_token": "access_token",
    "auth.token_response.pin_base_url": False,
}
"""Defaults of a document."""


def test_no_default_in_a_destination_changes() -> None:
    """Ever: omitted keys are not sealed, so another default would redirect secrets."""
    result: dict[str, Any] = {}
    for model, where in kinds():
        for key in keys_of(model):
            if not key.safe_to_change and key.canonical_default not in (None, {}):
                place = f"{where}.{model.__name__}" if where in UNIONS else where
                name = f"{place}.{key.name}".removeprefix(".")
                assert result.setdefault(name, key.canonical_default) == key.canonical_default
    assert result == DEFAULTS


@pytest.mark.parametrize("key", EDITS)
def test_secret_does_not_open_after_its_destination_was_edited(key: str) -> None:
    """Through the rules or past them. Each secret must be entered again."""
    document, patch = EDITS[key]
    row = stored(document)
    moved = previous_row(row).apply_patch(patch)
    past = replace(row, document=patched(row.document, patch))
    if not key.endswith(".type"):
        secrets = set(ids(row))
        result = assessed(moved, previous_row(row))
        assert result.draft is None
        assert result.errors == ()
        again = {item.pointer for item in result.reenter}
        assert secrets - {"/auth/token_request/body/key"} <= again <= secrets
        assert secrets <= set(open_secrets(past).refused)
        assert open_secrets(past).values == {}
        # Nor in a document that was written whole.
        assert assessed(copied(moved), previous_row(row)).reenter == result.reenter
    else:
        assert assessed(merge_patch(document_for_api(row), patch), previous_row(row)).draft is None


TEXT = st.text("abcXYZ 09-_", min_size=1, max_size=8).map(str.strip).filter(bool)
HARMLESS_EDITS = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text("abc é*", max_size=8),
        "tags": st.lists(TEXT, max_size=2),
        "methods": st.just(["GET", "POST"]) | st.none(),
        "limits": st.just({"in_flight": 7}),
        "test": st.none(),
    },
)
OF_AUTH = {
    "aws_sigv4": st.fixed_dictionaries({"access_key_id": st.sampled_from(["AKIAOTHER", "AKIAEXAMPLE"])}),
    "added": st.just({}),
    "basic": st.just({}),
    "beside": st.just({}),
    "headers": st.fixed_dictionaries({"headers": st.fixed_dictionaries({"X-Tenant": TEXT, "X-More": TEXT})}),
    "oauth2": st.fixed_dictionaries(
        {
            "client_id": TEXT,
            "client_authentication": st.just("header")
            | st.fixed_dictionaries({"type": st.just("header"), "form_encoded": st.booleans()}),
            "single_live_token": st.booleans(),
        }
    ),
    "profile": st.fixed_dictionaries({"client_id": TEXT, "renewal_interval": st.sampled_from(["5s", "1m"])}),
    "responsys": st.fixed_dictionaries({"renewal_interval": st.sampled_from(["5s", "1m"])}),
    "jwt": st.fixed_dictionaries({"key_id": TEXT, "lifetime": st.sampled_from(["1m", "20m"]), "jti": st.booleans()}),
    "session": st.fixed_dictionaries(
        {"rejected": st.just([401, 403]), "logins_a_minute": st.integers(1, 9), "token": st.just({"lifetime": "2h"})}
    ),
    "mtls": st.fixed_dictionaries({"allow_private_ca": st.just(True)}),
    "jwt_bearer": st.fixed_dictionaries({"client_id": TEXT, "token_lifetime": st.sampled_from(["5s", "1m"])}),
}


@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from(sorted(OF_AUTH)))
def test_document_that_is_read_and_written_keeps_all_secrets(name: str, data: st.DataObject) -> None:
    """Twice in a row, and with a patch."""
    row = first = stored(documents()[name])
    for _ in range(2):
        edits = {**data.draw(HARMLESS_EDITS), "auth": data.draw(OF_AUTH[name])}
        document = merge_patch(document_for_api(row), edits)
        if data.draw(st.booleans()):
            document = previous_row(row).apply_patch(edits)
        row = stored(document, before=row)
        assert row.secrets == first.secrets
        assert open_secrets(row).values == open_secrets(first).values != {}


HOST = st.sampled_from(["a.example.com", "b.example.com"])
PREFIXES = st.lists(st.tuples(HOST, st.sampled_from(["", "/v1", "/rest/api"])), min_size=1, max_size=2)
TOKEN_BODY = st.dictionaries(st.sampled_from(["scope", "resource"]), st.sampled_from(["x", "y", 1, True]), max_size=2)
USERNAME = TEXT.map(lambda name: {"value": name})
AUTHS = st.one_of(
    st.fixed_dictionaries({"type": st.just("basic"), "username": USERNAME, "password": st.just({"value": CANARY})}),
    st.fixed_dictionaries(
        {"type": st.just("responsys"), "username": USERNAME, "password": st.just({"value": CANARY})},
        optional={"path_prefix": st.sampled_from(["/rest/api/v1.3", "/rest/api/v1.4"])},
    ).flatmap(lambda auth: HOST.map(lambda host: {**auth, "login_endpoint": f"https://{host}"})),
    st.fixed_dictionaries(
        {"type": st.just("oauth2"), "client_id": TEXT, "client_secret": st.just({"value": CANARY})},
        optional={
            "client_authentication": st.sampled_from(["header", "body", "query"]),
            "token_placement": st.sampled_from(["header", "query", {"in": "header", "name": "X-T"}]),
            "token_request": st.fixed_dictionaries({"body": TOKEN_BODY}),
        },
    ).flatmap(lambda auth: HOST.map(lambda host: {**auth, "token_endpoint": f"https://{host}/token"})),
)
DOCUMENTS = st.builds(
    lambda auth, prefixes, redact: {
        "auth": auth,
        "endpoint_prefix": [f"https://{host}{path}" for host, path in prefixes],
        "redact_response": redact,
    },
    AUTHS,
    PREFIXES,
    st.booleans(),
).filter(lambda document: assessed(document).draft is not None)


@given(before=DOCUMENTS, after=DOCUMENTS)
def test_rules_keep_exactly_the_secrets_that_open(before: dict[str, Any], after: dict[str, Any]) -> None:
    """For any pair of documents."""
    row = stored(before)
    changed = stored(after)
    past = replace(row, document=changed.document)
    # Both have a secret at each of the places that they share.
    shared = ids(row).keys() & ids(changed).keys()
    written = json.loads(changed.document)
    for where in shared:
        written = json.loads(json.dumps(written).replace(ids(changed)[where], ids(row)[where]))
    past = replace(row, document=json.dumps(written))
    same = destination(before) in accepted_destinations(settings_in(changed.document))
    assert set(open_secrets(past).values) == (shared if same else set())
    keeping = with_values(
        after, {loc_of_pointer(after, where): {"set": True, "id": ids(row)[where]} for where in shared}
    )
    result = assessed(keeping, previous_row(row))
    assert result.errors == ()
    assert (result.draft is not None) is (same or not shared)


def respelled(data: st.DataObject, document: dict[str, Any]) -> dict[str, Any]:
    """Write the same document differently."""
    other = copied(document)
    prefixes = [
        prefix.replace("https://", data.draw(st.sampled_from(["https://", "HTTPS://"]))).replace(
            "example.com", data.draw(st.sampled_from(["example.com", "EXAMPLE.com:443"]))
        )
        + data.draw(st.sampled_from(["", "/"]))
        for prefix in other["endpoint_prefix"]
    ]
    prefixes = data.draw(st.permutations([*prefixes, *prefixes[: data.draw(st.integers(0, 1))]]))
    other["endpoint_prefix"] = prefixes[0] if len(prefixes) == 1 and data.draw(st.booleans()) else prefixes
    auth = other["auth"]
    if data.draw(st.booleans()):
        other |= {"allow_other_domains": False, "allowed_domains": [], "trusted_ca": None, "description": "other words"}
        if auth["type"] == "oauth2":
            defaults = {"grant": "client_credentials", "client_authentication": "header", "token_placement": "header"}
            auth |= {key: auth.get(key, value) for key, value in defaults.items()}
        if auth["type"] == "responsys":
            auth["path_prefix"] = auth.get("path_prefix", "/rest/api/v1.3") + data.draw(st.sampled_from(["", "/"]))
    for key in ("login_endpoint", "token_endpoint"):
        if key in auth and data.draw(st.booleans()):
            auth[key] = auth[key].replace("example.com", "Example.COM:443")
    if auth.get("token_placement") == "header" and data.draw(st.booleans()):
        auth["token_placement"] = {"in": "header", "name": "AUTHORIZATION", "scheme": "bearer"}
    other["auth"] = dict(data.draw(st.permutations(list(auth.items()))))
    return dict(data.draw(st.permutations(list(other.items()))))


@given(data=st.data(), document=DOCUMENTS)
def test_equivalent_documents_have_one_destination(data: st.DataObject, document: dict[str, Any]) -> None:
    """So they keep their secrets."""
    row = stored(document)
    other = respelled(data, document)
    assert destination(other) == destination(document)
    assert (
        ids(stored(previous_row(row).apply_patch(json.loads(json.dumps(other))), before=row)).keys() == ids(row).keys()
    )


def test_added_client_certificate_needs_no_other_secret_again() -> None:
    row = stored(BASIC)
    block = beside()["client_certificate"]
    assert kept_pointers(draft(previous_row(row).apply_patch({"client_certificate": block}), previous_row(row))) == {
        "/auth/password",
        "/auth/username",
    }
