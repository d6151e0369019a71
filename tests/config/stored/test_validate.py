"""What becomes of a document that is sent, against what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import pytest

from sidekey.config.models import IntegrationSettings
from sidekey.config.stored.document import merge_patch
from sidekey.config.stored.rows import has_content_of, show_document
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
    beside,
    chain,
    copied,
    documents,
    draft,
    entered,
    errors,
    former,
    ids,
    judged,
    jwt_bearer,
    kept,
    mtls,
    opened,
    patched,
    reenter,
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
    """A document as its editor gets it."""
    return show_document(row)


@pytest.mark.parametrize("name", SECRETS)
def test_the_secrets_of_every_kind_are_taken_out_and_everything_else_stays(name: str) -> None:
    """What is saved has none of them; what was entered has each, whole, at its place."""
    made = draft(documents()[name])
    assert set(entered(made)) == SECRETS[name]
    assert made.kept == ()
    text = made.saved.text()
    assert CANARY not in text
    assert "PRIVATE KEY" not in text
    for where, value in entered(made).items():
        assert json.dumps(value)[1:-1] in json.dumps(documents()[name]), where


@pytest.mark.parametrize("name", SECRETS)
def test_a_document_that_was_got_and_is_put_keeps_everything(name: str) -> None:
    """Also where a harmless key was edited in between."""
    row = stored(documents()[name])
    document = read(row)
    assert CANARY not in json.dumps(document)
    document["description"] = "edited"
    made = draft(document, former(row))
    assert (made.entered, kept(made)) == ({}, SECRETS[name])
    after = stored(document, before=row)
    assert after.secrets == row.secrets
    assert opened(after).refused == {}
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
def test_another_destination_needs_every_secret_again(name: str, patch: dict[str, Any]) -> None:
    """Each is named; with all of them entered the document is saved, and sealed for the new destination."""
    row = stored(documents()[name])
    left = SECRETS[name] - ({"/auth/token_request/body/key"} if "GET" in str(patch) else set())
    found = reenter(former(row).patched(patch), former(row))
    assert found.keys() == left
    key = next(iter(patch.get("auth", patch) if name != "profile" else ["a"]))
    assert all(key in reason and "has changed" in reason for reason in found.values()), found
    # What a document says of secrets may also be changed where it lies, by whoever can write to the database.
    if name != "profile":
        assert opened(replace(row, document=patched(row.document, patch))).values == {}


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
def test_what_moves_no_secret_keeps_all_of_them(name: str, patch: dict[str, Any]) -> None:
    """They still open."""
    row = stored(documents()[name])
    after = stored(former(row).patched(patch), before=row)
    assert after.secrets == row.secrets
    assert set(opened(after).values) == SECRETS[name]


@pytest.mark.parametrize("name", ["X-Original-URL", "x_rewrite_url", "X-HTTP-Method-Override"])
def test_what_decides_where_a_server_reads_a_target_is_public(name: str) -> None:
    """As a secret it would be entered, and the others kept."""
    row = stored(HEADERS)
    patch = {"auth": {"headers": {name: {"secret": {"value": "/admin"}}}}}
    assert errors(former(row).patched(patch), former(row)) == {
        "/auth/headers": f"{name} must be a public text: a server may take the request for another by it"
    }
    assert reenter(former(row).patched({"auth": {"headers": {name: "/admin"}}}), former(row)).keys() == {
        "/auth/headers/Authorization/secret"
    }


def test_what_is_left_out_of_a_document_is_removed() -> None:
    """And what a patch leaves out is kept."""
    both: dict[str, Any] = copied(HEADERS)
    both["auth"]["headers"]["X-Key"] = {"secret": {"value": f"{CANARY}-key"}}
    row = stored(both)
    document = read(row)
    del document["auth"]["headers"]["X-Key"]
    left, removed = "/auth/headers/Authorization/secret", "/auth/headers/X-Key/secret"
    assert kept(draft(document, former(row))) == {left}
    assert stored(document, before=row).secrets.keys() == {ids(row)[left]}
    assert kept(draft(former(row).patched({"description": "x"}), former(row))) == {left, removed}


def test_a_token_request_with_fewer_parameters_is_another() -> None:
    """Whether they are secret or not."""
    row = stored(OAUTH2)
    document = read(row)
    del document["auth"]["token_request"]["body"]["key"]
    assert reenter(document, former(row)) == {"/auth/client_secret": "auth.token_request.body.key has changed"}


def test_a_patch_replaces_a_secret_whole() -> None:
    """Also one that reads as set, and a null removes it."""
    row = stored(BASIC)
    made = draft(former(row).patched({"auth": {"password": {"value": "another"}}}), former(row))
    assert (entered(made), kept(made)) == ({"/auth/password": "another"}, {"/auth/username"})
    assert made.entered.keys().isdisjoint(row.secrets)
    assert errors(former(row).patched({"auth": {"username": None}}), former(row)) == {
        "/auth/username": "this key is missing"
    }


@pytest.mark.parametrize("text", ["", "*", "********", "••••••", "• • •", "*•"])
def test_what_forms_show_instead_of_a_secret_is_refused(text: str) -> None:
    """An editor that sends the whole form back must not overwrite what is stored."""
    assert list(
        errors({**PREFIX, "auth": {"type": "basic", "username": {"value": "u"}, "password": {"value": text}}})
    ) == ["/auth/password"]


def test_a_value_is_checked_as_one_that_is_read() -> None:
    """By the rules of its kind; none of it is repeated."""
    assert errors({**PREFIX, "auth": {"type": "headers", "headers": {"X-Key": {"secret": {"value": "hunter2 "}}}}}) == {
        "/auth/headers/X-Key/secret": "must not begin or end with a space: HTTP drops it"
    }
    document = jwt_bearer()
    document["auth"]["grant"]["private_key"] = {"value": "-----BEGIN PRIVATE KEY-----\nhunter2\n"}
    (found,) = errors(document).items()
    assert found[0] == "/auth/grant/private_key"
    assert "hunter2" not in found[1]


def test_a_secret_becomes_public_only_with_a_new_value() -> None:
    """What is stored is not show_document in a header's public text."""
    row = stored(HEADERS)
    document = read(row)
    document["auth"]["headers"]["Authorization"] = document["auth"]["headers"]["Authorization"]["secret"]
    assert list(errors(document, former(row))) == ["/auth/headers/Authorization"]
    document["auth"]["headers"]["Authorization"] = "Bearer public"
    assert stored(document, before=row).secrets == {}


def test_a_secret_does_not_move_to_another_field() -> None:
    """Whatever the document says is kept there."""
    row = stored(HEADERS)
    document = read(row)
    headers = document["auth"]["headers"]
    headers["X-Debug"] = headers.pop("Authorization")
    assert reenter(document, former(row)) == {
        "/auth/headers/X-Debug/secret": "it was in auth.headers.Authorization.secret"
    }


def test_secrets_that_change_places_are_entered_again() -> None:
    """The user name would be sent as the password; and none is used twice."""
    row = stored(BASIC)
    auth = read(row)["auth"]
    swapped = {**read(row), "auth": {**auth, "username": auth["password"], "password": auth["username"]}}
    assert reenter(swapped, former(row)) == {
        "/auth/username": "it was in auth.password",
        "/auth/password": "it was in auth.username",
    }
    twice = {**read(row), "auth": {**auth, "password": auth["username"]}}
    assert errors(twice, former(row)) == {
        "/auth/password": "a stored secret is used once: send {value: SECRET}, which is sealed"
    }


def test_a_reason_names_what_has_changed() -> None:
    """Several, and no more than a few; no value is in it."""
    row = stored(OAUTH2)
    changed = former(row).patched(
        {
            "endpoint_prefix": "https://evil.example.com",
            "trusted_ca": "system",
            "redact_response": True,
            "auth": {"token_endpoint": "https://evil.example.com/token", "client_authentication": "body"},
        }
    )
    assert reenter(changed, former(row))["/auth/client_secret"] == (
        "auth.client_authentication has changed, auth.token_endpoint has changed, endpoint_prefix has changed, "
        "and 1 more"
    )


def test_a_kept_secret_needs_its_id() -> None:
    """The error says to send it as it was read."""
    row = stored(BASIC)
    document = read(row)
    del document["auth"]["password"]["id"]
    assert errors(document, former(row)) == {
        "/auth/password": "must have the id of the stored secret: send it as you read it, or send {value: SECRET}, "
        "which is sealed"
    }


def test_certificate_and_key_are_entered_together() -> None:
    """Another certificate needs its key; another key is that of the certificate."""
    row = stored(mtls())
    document = read(row)
    assert document["auth"]["certificate"] == mtls()["auth"]["certificate"]
    other = private_chain("other.example")
    changed = {**document, "auth": {**document["auth"], "certificate": {"inline": other.leaf.pem.decode()}}}
    assert reenter(changed, former(row)) == {"/auth/private_key": "certificate beside it has changed"}
    past = replace(row, document=patched(row.document, {"auth": {"certificate": changed["auth"]["certificate"]}}))
    assert opened(past).values == {}
    key = {"value": chain().leaf.key_as().decode()}
    one = {**document, "auth": {**document["auth"], "private_key": key}}
    assert entered(draft(one, former(row))) == {"/auth/private_key": key["value"]}
    assert kept(draft(former(row).patched({"description": "x"}), former(row))) == {"/auth/private_key"}
    swapped = {**changed, "auth": {**changed["auth"], "private_key": key}}
    assert list(errors(swapped, former(row))) == ["/auth/private_key"]


def test_the_certificate_of_an_assertion_goes_with_its_key() -> None:
    """It is a text in the document."""
    row = stored(jwt_bearer())
    document = read(row)
    assert document["auth"]["grant"]["certificate"] == jwt_bearer()["auth"]["grant"]["certificate"]
    key = {"value": signer().private_pem.decode()}
    one = {"auth": {"grant": {"private_key": key}}}
    assert entered(draft(merge_patch(document, one), former(row))) == {"/auth/grant/private_key": key["value"]}
    for certificate in (stranger().certificate_pem.decode(), None):
        other = {"auth": {"grant": {"certificate": certificate}}}
        assert reenter(merge_patch(document, other), former(row)) == {
            "/auth/grant/private_key": "certificate beside it has changed"
        }
        past = replace(row, document=patched(row.document, other))
        assert opened(past).values == {}
    both = {"auth": {"grant": {"private_key": key, "certificate": stranger().certificate_pem.decode()}}}
    assert list(errors(merge_patch(document, both), former(row))) == ["/auth/grant/certificate"]


def test_a_url_of_a_certificate_is_sealed_like_a_secret() -> None:
    """It may be one that gives access by itself."""
    urls = {key: {"url": f"https://vault.example.com/{CANARY}/{key}"} for key in ("certificate", "private_key")}
    row = stored({**PREFIX, "auth": {"type": "mtls", **urls}})
    assert CANARY not in row.document
    assert set(ids(row)) == {"/auth/certificate/url", "/auth/private_key/url"}
    document = read(row)
    assert document["auth"]["private_key"]["url"]["set"] is True
    assert kept(draft(document, former(row))) == set(ids(row))
    assert opened(row).values["/auth/private_key/url"] == urls["private_key"]["url"]
    for half, other in (("certificate", "private_key"), ("private_key", "certificate")):
        changed = {**document, "auth": {**document["auth"], half: {"url": "https://vault.example.com/other"}}}
        assert reenter(changed, former(row)) == {f"/auth/{other}/url": f"{half} beside it has changed"}


def test_a_profile_is_filled_in_when_it_is_saved() -> None:
    """What is saved has its parameters, and what they brought; the editor sees what they wrote."""
    row = stored(PROFILE)
    document = read(row)
    assert document["auth"].keys() == PROFILE["auth"].keys()
    endpoint = json.loads(row.document)["profile"]["keys"]["auth"]["token_endpoint"]
    assert endpoint == "https://auth.europe-west1.gcp.commercetools.com/oauth/token"
    assert settings_in(row.document).auth.destinations({("token_endpoint",): "https://a.example/t"}) is not None
    document["auth"]["client_id"] = "other"
    assert kept(draft(document, former(row))) == {"/auth/client_secret"}


def test_a_profile_that_changed_moves_nothing_that_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that is gone; another region is filled in by the one of now."""
    row = stored(PROFILE)
    saved = json.loads(row.document)
    saved["profile"]["keys"]["auth"]["token_endpoint"] = "https://auth.before.example.com/t"
    before = former(replace(row, document=json.dumps(saved)))
    made = draft(before.patched({"description": "x"}), before)
    assert made.purpose.destinations[0]["auth"]["token_endpoint"] == "https://auth.before.example.com/t"  # type: ignore[index,call-overload]
    assert judged(before.patched({"auth": {"region": "us-central1.gcp"}}), before).errors == ()
    saved["integration"]["auth"]["provider"] = saved["profile"]["provider"] = "of-another-version"
    gone = former(replace(row, document=json.dumps(saved)))
    assert gone.purpose is not None
    assert kept(draft(gone.patched({"description": "x"}), gone)) == {"/auth/client_secret"}


def test_errors_of_a_profile_stand_where_it_is_named() -> None:
    """Its parameters are keys of the document."""
    document = copied(PROFILE)
    document["auth"]["region"] = "nowhere!"
    assert list(errors(document)) == ["/auth/region"]
    document["auth"]["provider"] = "comercetools"
    assert errors(document)["/auth/provider"] == "no such provider; did you mean commercetools?"


def test_what_is_stored_for_a_kind_that_is_gone_must_be_entered_again() -> None:
    """Where a secret went is not known then."""
    row = stored(RESPONSYS)
    before = former(replace(row, document=row.document.replace('"responsys"', '"vanished"')))
    assert before.purpose is None
    left = {"set": True, "id": ids(row)["/auth/password"]}
    assert reenter({**RESPONSYS, "auth": {**RESPONSYS["auth"], "password": left}}, before) == {
        "/auth/password": "what is stored is not valid any more"
    }


def test_another_kind_keeps_no_secret_of_the_same_place() -> None:
    """The place is that of a password, too, and its destination is another."""
    row = stored(BASIC)
    document = {"auth": {**RESPONSYS["auth"], "password": {"set": True, "id": ids(row)["/auth/password"]}}}
    assert "auth.type has changed" in reenter(document, former(row))["/auth/password"]


def test_a_header_of_a_stored_certificate_beside_another_kind_keeps_both() -> None:
    """Two credentials, each at its place."""
    row = stored(beside())
    assert set(opened(row).values) == SECRETS["beside"]


def test_what_lists_show_is_bounded() -> None:
    """A page has fifty of them, and the interpreter is held until each is written."""
    longest = {**BASIC, "description": "d" * 2000, "tags": ["t" * 100] * 50}
    assert draft(longest).settings.description == "d" * 2000
    assert errors({**longest, "description": "d" * 2001, "tags": ["t"] * 51}).keys() == {"/description", "/tags"}
    assert errors({**longest, "tags": ["t" * 101]}).keys() == {"/tags"}


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_what_python_takes_for_the_same_is_another_destination(value: object) -> None:
    """It is sealed for JSON, in which 1 is neither true nor 1.0: what is kept would not open."""
    document = copied(OAUTH2)
    document["auth"]["token_request"]["body"]["resource"] = 1
    before = former(stored(document))
    changed = before.patched({"auth": {"token_request": {"body": {"resource": value}}}})
    assert "/auth/client_secret" in reenter(changed, before)


def test_all_is_told_of_a_document_that_may_not_be_saved() -> None:
    """Errors, and what must be entered again nevertheless, where the models accept it."""
    row = stored(PROFILE)
    changed = merge_patch(read(row), {"auth": {"region": "us-central1.gcp"}, "description": "x" * 3000})
    found = assess(changed, former(row), in_flight=10_000, now=PRESENT)
    assert [each.pointer for each in found.errors] == ["/description"]
    assert [each.pointer for each in found.again] == ["/auth/client_secret"]
    assert CANARY not in repr(found)


def test_every_secret_is_entered_again_if_what_is_stored_is_not_valid_any_more() -> None:
    row = stored(BASIC)
    invalid = replace(former(row), purpose=None)
    found = assess(read(row), invalid, in_flight=10_000, now=PRESENT)
    assert {each.pointer for each in found.again} == {"/auth/password", "/auth/username"}


def test_what_is_wrong_with_a_secret_of_a_profile_is_told_at_its_own_name() -> None:
    """And nothing at the places that the profile puts it in, where nobody has written anything."""
    auth = {"type": "headers", "provider": "klaviyo"}
    assert errors({"auth": {**auth, "key": {"value": " x "}}}).keys() == {"/auth/key"}
    assert "this secret is missing" in errors({"auth": auth})["/auth/key"]
    assert errors({"auth": auth}).keys() == {"/auth/key"}
    app = {"type": "session", "provider": "github-app", "app_client_id": "a", "installation_id": "1"}
    key = {"app_private_key": {"value": "-----BEGIN PRIVATE KEY-----\nx"}}
    assert errors({"auth": {**app, **key}}) == {"/auth/app_private_key": "must be a private key in PEM"}


def test_a_provider_of_another_kind_is_told_whatever_was_saved() -> None:
    """What the profile brought is for its own kind."""
    row = stored({"auth": {"type": "headers", "provider": "klaviyo", "key": {"value": CANARY}}})
    other = {"auth": {"type": "basic", "provider": "klaviyo", "key": read(row)["auth"]["key"]}}
    assert "this provider needs type: headers" in errors(other, former(row))["/auth/provider"]


@pytest.mark.parametrize("given", [CANARY, 5, {"x": CANARY}, [CANARY]])
def test_a_secret_of_a_profile_is_never_saved_as_public_text(given: Any) -> None:
    """Also where the profile of before is used again, and puts it where a public text may be."""
    auth = {"type": "session", "provider": "yotpo", "store_id": "r" * 40, "api_secret": {"value": "s"}}
    row = stored({"auth": auth})
    document = {"auth": {**read(row)["auth"], "api_secret": given}}
    assert errors(document, former(row)).keys() == {"/auth/api_secret"}
    assert "send {value: SECRET}" in errors(document, former(row))["/auth/api_secret"]


def branch(raw: Any, context: Context) -> Any:
    """What a document nests, with references in place of its secrets."""
    if isinstance(raw, list):
        return [branch(each, context) for each in raw]
    if isinstance(raw, dict):
        return (
            parse_secret(raw, context)
            if "value" in raw or "set" in raw
            else {key: branch(raw[key], context) for key in raw}
        )
    return raw


class Listing(IntegrationSettings):
    """An integration with secrets in lists."""

    keys: Secret | list[Secret] | None = None
    tree: Annotated[Any, parsed_by(branch)] = None


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Integrations may have lists of secrets."""
    monkeypatch.setattr("sidekey.config.validate.IntegrationSettings", Listing)
    yield


def with_keys(*keys: Any, **more: Any) -> dict[str, Any]:
    """A document with a list of secrets."""
    return {**BASIC, "keys": [*keys], **more}


OLD, MIDDLE, NEW = ({"value": f"{CANARY}-{name}"} for name in ("old", "middle", "new"))


@pytest.mark.usefixtures("listing")
def test_a_secret_of_a_list_is_kept_wherever_it_stands() -> None:
    """One is added before them, they change places, one goes: no other is entered again, and each opens."""
    row = stored(with_keys(OLD, MIDDLE))
    old, middle = read(row)["keys"]
    assert old["id"] != middle["id"]
    assert set(opened(row).values.values()) == {"svc", CANARY, OLD["value"], MIDDLE["value"]}
    row = stored({**read(row), "keys": [NEW, middle, old]}, before=row)
    assert [each["id"] for each in read(row)["keys"][1:]] == [middle["id"], old["id"]]
    assert [opened(row).values[f"/keys/{index}"] for index in range(3)] == [
        each["value"] for each in (NEW, MIDDLE, OLD)
    ]
    row = stored({**read(row), "keys": [read(row)["keys"][2]]}, before=row)
    assert opened(row).values["/keys/0"] == OLD["value"]
    assert len(row.secrets) == 3
    assert CANARY not in row.document


@pytest.mark.usefixtures("listing")
def test_one_secret_becomes_a_list_and_is_one_again() -> None:
    """It was entered for the same destination."""
    alone = stored({**BASIC, "keys": OLD})
    two = stored({**read(alone), "keys": [NEW, read(alone)["keys"]]}, before=alone)
    assert opened(two).values["/keys/1"] == OLD["value"]
    one = stored({**read(two), "keys": read(two)["keys"][0]}, before=two)
    assert opened(one).values == {"/auth/username": "svc", "/auth/password": CANARY, "/keys": NEW["value"]}
    assert read(one)["keys"] == read(two)["keys"][0]


@pytest.mark.usefixtures("listing")
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([{"set": True, "id": "s_1"}], {"/keys/0": "no secret with this id is stored here"}),
        ("same", {"/keys/1": "is used once"}),
    ],
)
def test_an_id_that_is_not_there_or_twice_is_an_error(keys: Any, expected: dict[str, str]) -> None:
    """At its place, with the way out, and beside all else; nothing of it is repeated."""
    row = stored(with_keys(OLD))
    (old,) = read(row)["keys"]
    given = {**read(row), "keys": [old, old] if keys == "same" else keys, "source_address": "nonsense"}
    found = errors(given, former(row))
    assert found.keys() == {*expected, "/source_address"}
    for where, text in expected.items():
        assert text in found[where]
        assert "{value: SECRET}" in found[where]
        assert "s_" not in found[where]


@pytest.mark.usefixtures("listing")
def test_secrets_of_a_nested_list_are_kept_as_well() -> None:
    """Whatever public values stand around them; a change of those needs them again, by where they stand now."""
    tree = {"users": [{"name": "a", "key": OLD}, "x", MIDDLE, [NEW]]}
    row = stored({**BASIC, "tree": tree})
    first, public, middle, nested = read(row)["tree"]["users"]
    assert len(opened(row).values) == 5
    moved = draft({**read(row), "tree": {"users": [middle, first, public, nested]}}, former(row))
    assert (moved.entered, len(moved.kept)) == ({}, 5)
    other = {**read(row), "tree": {"users": [middle, {**first, "name": "b"}, public, nested]}}
    found = reenter(other, former(row))
    assert found.keys() == {
        "/auth/password",
        "/auth/username",
        "/tree/users/0",
        "/tree/users/1/key",
        "/tree/users/3/0",
    }
    assert found["/tree/users/1/key"] == ("what is public beside it in a list has changed, tree.users has changed")
    assert reenter({**read(row), "endpoint_prefix": "https://evil.example.com"}, former(row)).keys() == {
        "/auth/password",
        "/auth/username",
        "/tree/users/0/key",
        "/tree/users/2",
        "/tree/users/3/0",
    }


@pytest.mark.usefixtures("listing")
def test_a_secret_does_not_move_to_another_public_value_of_a_list() -> None:
    """What is public is the same, and a password would be sent as the comment; so between lists in a list."""
    tree = [{"name": "password", "key": OLD}, {"name": "comment", "key": MIDDLE}, [NEW], ["x"]]
    row = stored({**BASIC, "tree": tree})
    first, second, third, fourth = read(row)["tree"]
    swapped = [{**first, "key": second["key"]}, {**second, "key": first["key"]}, third, fourth]
    assert reenter({**read(row), "tree": swapped}, former(row)).keys() == {"/tree/0/key", "/tree/1/key"}
    one = [{**first, "key": {"value": "mine"}}, {**second, "key": first["key"]}, third, fourth]
    assert reenter({**read(row), "tree": one}, former(row)).keys() == {"/tree/1/key"}
    other = [first, second, [{"value": "mine"}], ["x", *third]]
    assert reenter({**read(row), "tree": other}, former(row)).keys() == {"/tree/3/1"}
    past = replace(row, document=patched(row.document, {"tree": swapped}))
    assert set(opened(past).refused) == {"/tree/0/key", "/tree/1/key"}
    renewed = draft({**read(row), "tree": [{**first, "key": NEW}, second, third, fourth]}, former(row))
    assert len(renewed.kept) == 4


@pytest.mark.usefixtures("listing")
def test_entries_of_a_list_move_as_a_whole() -> None:
    """With all of their secrets."""
    tree = [{"name": "a", "key": OLD, "more": [MIDDLE]}, {"name": "b", "key": NEW}]
    row = stored({**BASIC, "tree": tree})
    first, second = read(row)["tree"]
    assert "tree has changed" in reenter({**read(row), "tree": [second, first]}, former(row))["/tree/0/key"]
    same = [{**first, "more": []}, second]
    assert "tree has changed" in reenter({**read(row), "tree": same}, former(row))["/tree/0/key"]


@pytest.mark.usefixtures("listing")
def test_what_is_written_again_is_what_is_stored_in_the_same_order_alone() -> None:
    """A file has no IDs."""
    row = stored(with_keys(OLD, NEW))
    assert has_content_of(VAULT, row, draft(with_keys(OLD, NEW), former(row)))
    assert not has_content_of(VAULT, row, draft(with_keys(NEW, OLD), former(row)))
    assert not has_content_of(VAULT, row, draft(with_keys(OLD), former(row)))
    alone = stored({**BASIC, "keys": read(row)["keys"][0]}, before=row)
    assert has_content_of(VAULT, alone, draft({**BASIC, "keys": OLD}, former(alone)))
    assert not has_content_of(VAULT, alone, draft({**BASIC, "keys": NEW}, former(alone)))


@pytest.mark.usefixtures("listing")
def test_an_export_names_a_file_for_each_secret_of_a_list() -> None:
    """By its place, so that the same is exported of what was imported elsewhere."""
    row = stored(with_keys(OLD, NEW))
    exported = export_integration(row)
    files = ["secrets/crm.keys.0.txt", "secrets/crm.keys.1.txt"]
    assert exported.config["keys"] == [{"file": each} for each in files]
    assert {*files} < {*exported.needs}
