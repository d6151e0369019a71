"""Validation of documents against the stored integration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import pytest

from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.document import merge_patch
from sidekey.config.stored.rows import document_for_api, has_content_of
from sidekey.config.stored.transfer import export_integration
from sidekey.config.stored.validate import assess
from sidekey.credentials.context import Context, parsed_by
from sidekey.credentials.fields import Secret, parse_secret
from sidekey.store.records import IntegrationRow
from support.certificates import private_chain
from support.oauth import signer, stranger
from support.stored import (
    BASIC,
    CANARY,
    HEADERS,
    OAUTH2,
    PREFIX,
    PRESENT,
    PROFILE,
    RESPONSYS,
    VAULT,
    assessed,
    beside,
    chain,
    copied,
    documents,
    draft,
    entered_values,
    errors,
    ids,
    jwt_bearer,
    kept_pointers,
    mtls,
    open_secrets,
    patched,
    previous_row,
    secrets_required,
    settings_in,
    stored,
)

SECRETS = {
    "basic": {"/auth/username", "/auth/password"},
    "headers": {"/auth/headers/Authorization/secret"},
    "oauth2": {"/auth/client_secret", "/auth/token_request/body/key"},
    "profile": {"/auth/client_secret"},
    "responsys": {"/auth/username", "/auth/password"},
    "mtls": {"/auth/private_key"},
    "beside": {"/auth/username", "/auth/password", "/client_certificate/private_key"},
    "jwt_bearer": {"/auth/grant/private_key"},
}


def read(row: IntegrationRow) -> Any:
    """Return the document as its editor sees it."""
    return document_for_api(row)


@pytest.mark.parametrize("name", SECRETS)
def test_saved_document_has_no_secret_of_any_kind(name: str) -> None:
    """Each new secret is entered unchanged at its place."""
    result = draft(documents()[name])
    assert set(entered_values(result)) == SECRETS[name]
    assert result.kept == ()
    text = result.saved.text()
    assert CANARY not in text
    assert "PRIVATE KEY" not in text
    for at, value in entered_values(result).items():
        assert json.dumps(value)[1:-1] in json.dumps(documents()[name]), at


@pytest.mark.parametrize("name", SECRETS)
def test_document_sent_back_keeps_every_secret(name: str) -> None:
    """The description was edited."""
    row = stored(documents()[name])
    document = read(row)
    assert CANARY not in json.dumps(document)
    document["description"] = "edited"
    result = draft(document, previous_row(row))
    assert (result.entered, kept_pointers(result)) == ({}, SECRETS[name])
    after = stored(document, before=row)
    assert after.secrets == row.secrets
    assert open_secrets(after).refused == {}
    assert read(after) == document


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("basic", {"endpoint_prefix": "https://api.example.com/v2"}),
        ("basic", {"endpoint_prefix": ["https://api.example.com/v1", "https://api.example.com/v2"]}),
        ("oauth2", {"auth": {"token_request": {"method": "GET", "body": None, "query": {"a": "b"}}}}),
        ("oauth2", {"auth": {"token_request": {"body": {"resource": {"value": "https://evil.example.com"}}}}}),
        ("oauth2", {"auth": {"token_request": {"query": {"resource": {"value": "https://evil.example.com"}}}}}),
        ("oauth2", {"endpoint_prefix": "https://auth.example.com/x"}),
        ("profile", {"auth": {"region": "us-central1.gcp"}}),
        ("profile", {"allow_other_domains": False}),
        ("mtls", {"endpoint_prefix": "https://evil.example.com/v1"}),
        ("beside", {"endpoint_prefix": "https://evil.example.com/v1"}),
        ("jwt_bearer", {"auth": {"grant": {"claims": {"scope": {"value": "all"}}}}}),
    ],
)
def test_new_destination_requires_every_secret_again(name: str, patch: dict[str, Any]) -> None:
    """Once all are entered, the document is saved, and the secrets are sealed for the new destination."""
    row = stored(documents()[name])
    remaining = SECRETS[name] - ({"/auth/token_request/body/key"} if "GET" in str(patch) else set())
    reasons = secrets_required(previous_row(row).apply_patch(patch), previous_row(row))
    assert reasons.keys() == remaining
    key = next(iter(patch.get("auth", patch) if name != "profile" else ["a"]))
    assert all(key in reason and "has changed" in reason for reason in reasons.values()), reasons
    # Someone with write access to the database may change the document too.
    if name != "profile":
        assert open_secrets(replace(row, document=patched(row.document, patch))).values == {}


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("basic", {"endpoint_prefix": ["HTTPS://API.example.com:443/v1/"]}),
        ("headers", {"auth": {"headers": {"X-Tenant": "other", "X-More": "y"}}}),
        ("headers", {"auth": {"headers": {"Authorization": {"prefix": "Token "}}}}),
        ("oauth2", {"auth": {"token_endpoint": "https://AUTH.example.com:443/token"}}),
        ("oauth2", {"auth": {"token_placement": {"in": "header", "name": "authorization", "scheme": "bearer"}}}),
        ("responsys", {"auth": {"login_endpoint": "https://login2.responsys.net/"}}),
    ],
)
def test_edit_that_moves_no_secret_keeps_all(name: str, patch: dict[str, Any]) -> None:
    """The kept secrets still open."""
    row = stored(documents()[name])
    after = stored(previous_row(row).apply_patch(patch), before=row)
    assert after.secrets == row.secrets
    assert set(open_secrets(after).values) == SECRETS[name]


@pytest.mark.parametrize("name", ["X-Original-URL", "x_rewrite_url", "X-HTTP-Method-Override"])
def test_header_that_overrides_the_target_must_be_public(name: str) -> None:
    """If it were secret, it could be changed without entering the other secrets again."""
    row = stored(HEADERS)
    patch = {"auth": {"headers": {name: {"secret": {"value": "/admin"}}}}}
    assert errors(previous_row(row).apply_patch(patch), previous_row(row)) == {
        "/auth/headers": f"{name} must be a public text: a server may take the request for another by it"
    }
    assert secrets_required(
        previous_row(row).apply_patch({"auth": {"headers": {name: "/admin"}}}), previous_row(row)
    ).keys() == {"/auth/headers/Authorization/secret"}


def test_secret_missing_from_a_document_is_removed() -> None:
    """A patch does not change the secrets that it does not mention."""
    both: dict[str, Any] = copied(HEADERS)
    both["auth"]["headers"]["X-Key"] = {"secret": {"value": f"{CANARY}-key"}}
    row = stored(both)
    document = read(row)
    del document["auth"]["headers"]["X-Key"]
    remaining, removed = "/auth/headers/Authorization/secret", "/auth/headers/X-Key/secret"
    assert kept_pointers(draft(document, previous_row(row))) == {remaining}
    assert stored(document, before=row).secrets.keys() == {ids(row)[remaining]}
    assert kept_pointers(draft(previous_row(row).apply_patch({"description": "x"}), previous_row(row))) == {
        remaining,
        removed,
    }


def test_removed_token_request_parameter_changes_the_destination() -> None:
    """Even if it is secret."""
    row = stored(OAUTH2)
    document = read(row)
    del document["auth"]["token_request"]["body"]["key"]
    assert secrets_required(document, previous_row(row)) == {
        "/auth/client_secret": "auth.token_request.body.key has changed"
    }


def test_patch_replaces_or_removes_a_secret() -> None:
    row = stored(BASIC)
    result = draft(previous_row(row).apply_patch({"auth": {"password": {"value": "another"}}}), previous_row(row))
    assert (entered_values(result), kept_pointers(result)) == ({"/auth/password": "another"}, {"/auth/username"})
    assert result.entered.keys().isdisjoint(row.secrets)
    assert errors(previous_row(row).apply_patch({"auth": {"username": None}}), previous_row(row)) == {
        "/auth/username": "this key is missing"
    }


@pytest.mark.parametrize("text", ["", "*", "********", "••••••", "• • •", "*•"])
def test_mask_of_a_form_is_refused_as_a_secret(text: str) -> None:
    """An editor that sends the whole form back must not overwrite the stored secret."""
    assert list(
        errors({**PREFIX, "auth": {"type": "basic", "username": {"value": "u"}, "password": {"value": text}}})
    ) == ["/auth/password"]


def test_entered_secret_is_validated_without_repeating_it() -> None:
    assert errors({**PREFIX, "auth": {"type": "headers", "headers": {"X-Key": {"secret": {"value": "hunter2 "}}}}}) == {
        "/auth/headers/X-Key/secret": "must not begin or end with a space: HTTP drops it"
    }
    document = jwt_bearer()
    document["auth"]["grant"]["private_key"] = {"value": "-----BEGIN PRIVATE KEY-----\nhunter2\n"}
    (error,) = errors(document).items()
    assert error[0] == "/auth/grant/private_key"
    assert "hunter2" not in error[1]


def test_a_secret_becomes_public_only_with_a_new_value() -> None:
    """A stored secret must not appear in a header's public text."""
    row = stored(HEADERS)
    document = read(row)
    document["auth"]["headers"]["Authorization"] = document["auth"]["headers"]["Authorization"]["secret"]
    assert list(errors(document, previous_row(row))) == ["/auth/headers/Authorization"]
    document["auth"]["headers"]["Authorization"] = "Bearer public"
    assert stored(document, before=row).secrets == {}


def test_secret_cannot_move_to_another_field() -> None:
    row = stored(HEADERS)
    document = read(row)
    headers = document["auth"]["headers"]
    headers["X-Debug"] = headers.pop("Authorization")
    assert secrets_required(document, previous_row(row)) == {
        "/auth/headers/X-Debug/secret": "it was in auth.headers.Authorization.secret"
    }


def test_swapped_secrets_are_entered_again() -> None:
    """Otherwise Sidekey would send the user name as the password. No secret is used twice."""
    row = stored(BASIC)
    auth = read(row)["auth"]
    swapped = {**read(row), "auth": {**auth, "username": auth["password"], "password": auth["username"]}}
    assert secrets_required(swapped, previous_row(row)) == {
        "/auth/username": "it was in auth.password",
        "/auth/password": "it was in auth.username",
    }
    twice = {**read(row), "auth": {**auth, "password": auth["username"]}}
    assert errors(twice, previous_row(row)) == {
        "/auth/password": "a stored secret is used once: send {value: SECRET}, which is sealed"
    }


def test_reason_names_the_changed_keys() -> None:
    """It names only a few keys, and no value."""
    row = stored(OAUTH2)
    changed = previous_row(row).apply_patch(
        {
            "endpoint_prefix": "https://evil.example.com",
            "trusted_ca": "system",
            "redact_response": True,
            "auth": {"token_endpoint": "https://evil.example.com/token", "client_authentication": "body"},
        }
    )
    assert secrets_required(changed, previous_row(row))["/auth/client_secret"] == (
        "auth.client_authentication has changed, auth.token_endpoint has changed, endpoint_prefix has changed, "
        "and 1 more"
    )


def test_kept_secret_needs_its_id() -> None:
    row = stored(BASIC)
    document = read(row)
    del document["auth"]["password"]["id"]
    assert errors(document, previous_row(row)) == {
        "/auth/password": "must have the id of the stored secret: send it as you read it, or send {value: SECRET}, "
        "which is sealed"
    }


def test_new_certificate_requires_its_key_again() -> None:
    """A new key must match the stored certificate."""
    row = stored(mtls())
    document = read(row)
    assert document["auth"]["certificate"] == mtls()["auth"]["certificate"]
    other = private_chain("other.example")
    changed = {**document, "auth": {**document["auth"], "certificate": {"inline": other.leaf.pem.decode()}}}
    assert secrets_required(changed, previous_row(row)) == {"/auth/private_key": "certificate beside it has changed"}
    altered = replace(row, document=patched(row.document, {"auth": {"certificate": changed["auth"]["certificate"]}}))
    assert open_secrets(altered).values == {}
    key = {"value": chain().leaf.key_as().decode()}
    new_key = {**document, "auth": {**document["auth"], "private_key": key}}
    assert entered_values(draft(new_key, previous_row(row))) == {"/auth/private_key": key["value"]}
    assert kept_pointers(draft(previous_row(row).apply_patch({"description": "x"}), previous_row(row))) == {
        "/auth/private_key"
    }
    swapped = {**changed, "auth": {**changed["auth"], "private_key": key}}
    assert list(errors(swapped, previous_row(row))) == ["/auth/private_key"]


def test_new_assertion_certificate_requires_its_key_again() -> None:
    """This certificate is a text in the document."""
    row = stored(jwt_bearer())
    document = read(row)
    assert document["auth"]["grant"]["certificate"] == jwt_bearer()["auth"]["grant"]["certificate"]
    key = {"value": signer().private_pem.decode()}
    new_key = {"auth": {"grant": {"private_key": key}}}
    assert entered_values(draft(merge_patch(document, new_key), previous_row(row))) == {
        "/auth/grant/private_key": key["value"]
    }
    for certificate in (stranger().certificate_pem.decode(), None):
        other = {"auth": {"grant": {"certificate": certificate}}}
        assert secrets_required(merge_patch(document, other), previous_row(row)) == {
            "/auth/grant/private_key": "certificate beside it has changed"
        }
        altered = replace(row, document=patched(row.document, other))
        assert open_secrets(altered).values == {}
    both = {"auth": {"grant": {"private_key": key, "certificate": stranger().certificate_pem.decode()}}}
    assert list(errors(merge_patch(document, both), previous_row(row))) == ["/auth/grant/certificate"]


def test_url_of_a_certificate_is_sealed() -> None:
    """It may give access by itself."""
    urls = {key: {"url": f"https://vault.example.com/{CANARY}/{key}"} for key in ("certificate", "private_key")}
    row = stored({**PREFIX, "auth": {"type": "mtls", **urls}})
    assert CANARY not in row.document
    assert set(ids(row)) == {"/auth/certificate/url", "/auth/private_key/url"}
    document = read(row)
    assert document["auth"]["private_key"]["url"]["set"] is True
    assert kept_pointers(draft(document, previous_row(row))) == set(ids(row))
    assert open_secrets(row).values["/auth/private_key/url"] == urls["private_key"]["url"]
    for half, other in (("certificate", "private_key"), ("private_key", "certificate")):
        changed = {**document, "auth": {**document["auth"], half: {"url": "https://vault.example.com/other"}}}
        assert secrets_required(changed, previous_row(row)) == {f"/auth/{other}/url": f"{half} beside it has changed"}


def test_profile_is_expanded_when_it_is_saved() -> None:
    """The row has the parameters and the additions. The editor sees only the parameters."""
    row = stored(PROFILE)
    document = read(row)
    assert document["auth"].keys() == PROFILE["auth"].keys()
    endpoint = json.loads(row.document)["profile"]["keys"]["auth"]["token_endpoint"]
    assert endpoint == "https://auth.europe-west1.gcp.commercetools.com/oauth/token"
    assert settings_in(row.document).auth.destinations({("token_endpoint",): "https://a.example/t"}) is not None
    document["auth"]["client_id"] = "other"
    assert kept_pointers(draft(document, previous_row(row))) == {"/auth/client_secret"}


def test_changed_profile_keeps_the_saved_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A removed profile does too. A new region is expanded with the present profile."""
    row = stored(PROFILE)
    saved = json.loads(row.document)
    saved["profile"]["keys"]["auth"]["token_endpoint"] = "https://auth.before.example.com/t"
    previous = previous_row(replace(row, document=json.dumps(saved)))
    result = draft(previous.apply_patch({"description": "x"}), previous)
    assert result.purpose.destinations[0]["auth"]["token_endpoint"] == "https://auth.before.example.com/t"  # type: ignore[index,call-overload]
    assert assessed(previous.apply_patch({"auth": {"region": "us-central1.gcp"}}), previous).errors == ()
    saved["integration"]["auth"]["provider"] = saved["profile"]["provider"] = "of-another-version"
    removed = previous_row(replace(row, document=json.dumps(saved)))
    assert removed.purpose is not None
    assert kept_pointers(draft(removed.apply_patch({"description": "x"}), removed)) == {"/auth/client_secret"}


def test_errors_of_a_profile_are_at_its_parameters() -> None:
    document = copied(PROFILE)
    document["auth"]["region"] = "nowhere!"
    assert list(errors(document)) == ["/auth/region"]
    document["auth"]["provider"] = "comercetools"
    assert errors(document)["/auth/provider"] == "no such provider; did you mean commercetools?"


def test_secret_of_a_removed_kind_is_entered_again() -> None:
    """Its destination is not known."""
    row = stored(RESPONSYS)
    previous = previous_row(replace(row, document=row.document.replace('"responsys"', '"vanished"')))
    assert previous.purpose is None
    kept_password = {"set": True, "id": ids(row)["/auth/password"]}
    assert secrets_required({**RESPONSYS, "auth": {**RESPONSYS["auth"], "password": kept_password}}, previous) == {
        "/auth/password": "the stored document is no longer valid"
    }


def test_another_kind_requires_the_secret_again() -> None:
    """The place is the same, but the destination differs."""
    row = stored(BASIC)
    document = {"auth": {**RESPONSYS["auth"], "password": {"set": True, "id": ids(row)["/auth/password"]}}}
    assert "auth.type has changed" in secrets_required(document, previous_row(row))["/auth/password"]


def test_client_certificate_beside_another_kind_keeps_both_secrets() -> None:
    row = stored(beside())
    assert set(open_secrets(row).values) == SECRETS["beside"]


def test_texts_of_lists_are_limited() -> None:
    longest = {**BASIC, "description": "d" * 2000, "tags": ["t" * 100] * 50}
    assert draft(longest).settings.description == "d" * 2000
    assert errors({**longest, "description": "d" * 2001, "tags": ["t"] * 51}).keys() == {"/description", "/tags"}
    assert errors({**longest, "tags": ["t" * 101]}).keys() == {"/tags"}


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_equal_python_values_of_other_json_types_change_the_destination(value: object) -> None:
    """Sealing binds to JSON, in which 1 is neither true nor 1.0."""
    document = copied(OAUTH2)
    document["auth"]["token_request"]["body"]["resource"] = 1
    previous = previous_row(stored(document))
    changed = previous.apply_patch({"auth": {"token_request": {"body": {"resource": value}}}})
    assert "/auth/client_secret" in secrets_required(changed, previous)


def test_errors_and_required_secrets_are_reported_together() -> None:
    row = stored(PROFILE)
    changed = merge_patch(read(row), {"auth": {"region": "us-central1.gcp"}, "description": "x" * 3000})
    assessment = assess(changed, previous_row(row), in_flight=10_000, now=PRESENT)
    assert [error.pointer for error in assessment.errors] == ["/description"]
    assert [error.pointer for error in assessment.reenter] == ["/auth/client_secret"]
    assert CANARY not in repr(assessment)


def test_invalid_stored_document_requires_every_secret_again() -> None:
    row = stored(BASIC)
    invalid = replace(previous_row(row), purpose=None)
    assessment = assess(read(row), invalid, in_flight=10_000, now=PRESENT)
    assert {error.pointer for error in assessment.reenter} == {"/auth/password", "/auth/username"}


def test_error_of_a_profile_secret_is_at_its_parameter() -> None:
    """Places that the profile fills in have no error of their own."""
    auth = {"type": "headers", "provider": "klaviyo"}
    assert errors({"auth": {**auth, "key": {"value": " x "}}}).keys() == {"/auth/key"}
    assert "this secret is missing" in errors({"auth": auth})["/auth/key"]
    assert errors({"auth": auth}).keys() == {"/auth/key"}
    app = {"type": "session", "provider": "github-app", "app_client_id": "a", "installation_id": "1"}
    key = {"app_private_key": {"value": "-----BEGIN PRIVATE KEY-----\nx"}}
    assert errors({"auth": {**app, **key}}) == {"/auth/app_private_key": "must be a private key in PEM"}


def test_provider_of_another_kind_is_an_error() -> None:
    """Also if the saved profile belongs to the provider."""
    row = stored({"auth": {"type": "headers", "provider": "klaviyo", "key": {"value": CANARY}}})
    other = {"auth": {"type": "basic", "provider": "klaviyo", "key": read(row)["auth"]["key"]}}
    assert "`klaviyo` is a profile of `headers`" in errors(other, previous_row(row))["/auth/provider"]


@pytest.mark.parametrize("value", [CANARY, 5, {"x": CANARY}, [CANARY]])
def test_profile_secret_cannot_be_saved_as_public_text(value: Any) -> None:
    """Also if the saved additions would put it where public text is allowed."""
    auth = {"type": "session", "provider": "yotpo", "store_id": "r" * 40, "api_secret": {"value": "s"}}
    row = stored({"auth": auth})
    document = {"auth": {**read(row)["auth"], "api_secret": value}}
    assert errors(document, previous_row(row)).keys() == {"/auth/api_secret"}
    assert "send {value: SECRET}" in errors(document, previous_row(row))["/auth/api_secret"]


def branch(raw: Any, context: Context) -> Any:
    """Parse a nested value with references in place of its secrets."""
    if isinstance(raw, list):
        return [branch(item, context) for item in raw]
    if isinstance(raw, dict):
        return (
            parse_secret(raw, context)
            if "value" in raw or "set" in raw
            else {key: branch(raw[key], context) for key in raw}
        )
    return raw


class ListSettings(IntegrationSettings):
    """Settings with lists of secrets."""

    keys: Secret | list[Secret] | None = None
    tree: Annotated[Any, parsed_by(branch)] = None


@pytest.fixture
def list_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use settings with lists of secrets."""
    monkeypatch.setattr("sidekey.config.validate.IntegrationSettings", ListSettings)
    yield


def with_keys(*keys: Any, **more: Any) -> dict[str, Any]:
    """Build a document with a list of secrets."""
    return {**BASIC, "keys": [*keys], **more}


OLD, MIDDLE, NEW = ({"value": f"{CANARY}-{name}"} for name in ("old", "middle", "new"))


@pytest.mark.usefixtures("list_settings")
def test_secrets_of_a_list_are_kept_when_it_is_reordered() -> None:
    """Adding, moving or removing one requires no other again."""
    row = stored(with_keys(OLD, MIDDLE))
    old, middle = read(row)["keys"]
    assert old["id"] != middle["id"]
    assert set(open_secrets(row).values.values()) == {"svc", CANARY, OLD["value"], MIDDLE["value"]}
    row = stored({**read(row), "keys": [NEW, middle, old]}, before=row)
    assert [item["id"] for item in read(row)["keys"][1:]] == [middle["id"], old["id"]]
    assert [open_secrets(row).values[f"/keys/{index}"] for index in range(3)] == [
        item["value"] for item in (NEW, MIDDLE, OLD)
    ]
    row = stored({**read(row), "keys": [read(row)["keys"][2]]}, before=row)
    assert open_secrets(row).values["/keys/0"] == OLD["value"]
    assert len(row.secrets) == 3
    assert CANARY not in row.document


@pytest.mark.usefixtures("list_settings")
def test_single_secret_and_list_of_one_are_interchangeable() -> None:
    alone = stored({**BASIC, "keys": OLD})
    two = stored({**read(alone), "keys": [NEW, read(alone)["keys"]]}, before=alone)
    assert open_secrets(two).values["/keys/1"] == OLD["value"]
    single = stored({**read(two), "keys": read(two)["keys"][0]}, before=two)
    assert open_secrets(single).values == {"/auth/username": "svc", "/auth/password": CANARY, "/keys": NEW["value"]}
    assert read(single)["keys"] == read(two)["keys"][0]


@pytest.mark.usefixtures("list_settings")
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([{"set": True, "id": "s_1"}], {"/keys/0": "no secret with this id is stored here"}),
        ("same", {"/keys/1": "is used once"}),
    ],
)
def test_unknown_or_duplicate_id_is_an_error(keys: Any, expected: dict[str, str]) -> None:
    """The error has the path of the ID, and does not repeat it. Other errors are still reported."""
    row = stored(with_keys(OLD))
    (old,) = read(row)["keys"]
    document = {**read(row), "keys": [old, old] if keys == "same" else keys, "source_address": "nonsense"}
    reported = errors(document, previous_row(row))
    assert reported.keys() == {*expected, "/source_address"}
    for at, text in expected.items():
        assert text in reported[at]
        assert "{value: SECRET}" in reported[at]
        assert "s_" not in reported[at]


@pytest.mark.usefixtures("list_settings")
def test_secrets_of_a_nested_list_are_kept() -> None:
    """A change of public values beside them requires them again."""
    tree = {"users": [{"name": "a", "key": OLD}, "x", MIDDLE, [NEW]]}
    row = stored({**BASIC, "tree": tree})
    first, public, middle, nested = read(row)["tree"]["users"]
    assert len(open_secrets(row).values) == 5
    moved = draft({**read(row), "tree": {"users": [middle, first, public, nested]}}, previous_row(row))
    assert (moved.entered, len(moved.kept)) == ({}, 5)
    other = {**read(row), "tree": {"users": [middle, {**first, "name": "b"}, public, nested]}}
    reasons = secrets_required(other, previous_row(row))
    assert reasons.keys() == {
        "/auth/password",
        "/auth/username",
        "/tree/users/0",
        "/tree/users/1/key",
        "/tree/users/3/0",
    }
    assert reasons["/tree/users/1/key"] == ("its list entry has changed, tree.users has changed")
    assert secrets_required({**read(row), "endpoint_prefix": "https://evil.example.com"}, previous_row(row)).keys() == {
        "/auth/password",
        "/auth/username",
        "/tree/users/0/key",
        "/tree/users/2",
        "/tree/users/3/0",
    }


@pytest.mark.usefixtures("list_settings")
def test_secret_of_a_list_stays_with_its_public_values() -> None:
    """Otherwise Sidekey would send the password as the comment."""
    tree = [{"name": "password", "key": OLD}, {"name": "comment", "key": MIDDLE}, [NEW], ["x"]]
    row = stored({**BASIC, "tree": tree})
    first, second, third, fourth = read(row)["tree"]
    swapped = [{**first, "key": second["key"]}, {**second, "key": first["key"]}, third, fourth]
    assert secrets_required({**read(row), "tree": swapped}, previous_row(row)).keys() == {"/tree/0/key", "/tree/1/key"}
    renewed_first = [{**first, "key": {"value": "mine"}}, {**second, "key": first["key"]}, third, fourth]
    assert secrets_required({**read(row), "tree": renewed_first}, previous_row(row)).keys() == {"/tree/1/key"}
    other = [first, second, [{"value": "mine"}], ["x", *third]]
    assert secrets_required({**read(row), "tree": other}, previous_row(row)).keys() == {"/tree/3/1"}
    altered = replace(row, document=patched(row.document, {"tree": swapped}))
    assert set(open_secrets(altered).refused) == {"/tree/0/key", "/tree/1/key"}
    renewed = draft({**read(row), "tree": [{**first, "key": NEW}, second, third, fourth]}, previous_row(row))
    assert len(renewed.kept) == 4


@pytest.mark.usefixtures("list_settings")
def test_list_entries_with_secrets_cannot_be_reordered() -> None:
    tree = [{"name": "a", "key": OLD, "more": [MIDDLE]}, {"name": "b", "key": NEW}]
    row = stored({**BASIC, "tree": tree})
    first, second = read(row)["tree"]
    assert (
        "tree has changed" in secrets_required({**read(row), "tree": [second, first]}, previous_row(row))["/tree/0/key"]
    )
    same = [{**first, "more": []}, second]
    assert "tree has changed" in secrets_required({**read(row), "tree": same}, previous_row(row))["/tree/0/key"]


@pytest.mark.usefixtures("list_settings")
def test_same_secrets_in_the_same_order_are_the_same_content() -> None:
    """A file has no IDs."""
    row = stored(with_keys(OLD, NEW))
    assert has_content_of(VAULT, row, draft(with_keys(OLD, NEW), previous_row(row)))
    assert not has_content_of(VAULT, row, draft(with_keys(NEW, OLD), previous_row(row)))
    assert not has_content_of(VAULT, row, draft(with_keys(OLD), previous_row(row)))
    alone = stored({**BASIC, "keys": read(row)["keys"][0]}, before=row)
    assert has_content_of(VAULT, alone, draft({**BASIC, "keys": OLD}, previous_row(alone)))
    assert not has_content_of(VAULT, alone, draft({**BASIC, "keys": NEW}, previous_row(alone)))


@pytest.mark.usefixtures("list_settings")
def test_export_has_a_file_for_each_secret_of_a_list() -> None:
    """Files are named by place, so that an export after an import is the same."""
    row = stored(with_keys(OLD, NEW))
    exported = export_integration(row)
    files = ["secrets/crm.keys.0.txt", "secrets/crm.keys.1.txt"]
    assert exported.config["keys"] == [{"file": file} for file in files]
    assert {*files} < {*exported.needs}
