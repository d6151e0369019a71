"""What is stored, as config files say it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidekey.config.load import load
from sidekey.config.stored.document import replaced
from sidekey.config.stored.transfer import (
    Exported,
    NotExported,
    export_caller,
    export_integration,
    export_preset,
    locate,
)
from sidekey.config.validate import validate
from sidekey.config.yaml_writer import write
from sidekey.credentials.context import Context
from sidekey.store.records import CallerRow, PresetRow
from support.stored import (
    BASIC,
    CANARY,
    HEADERS,
    PREFIX,
    PRESENT,
    PROFILE,
    PROFILE_KEY,
    chain,
    documents,
    draft,
    entered,
    opened,
    stored,
)
from support.transfer import every_kind, fill, rewritten_of

KINDS = sorted(every_kind())


@pytest.mark.parametrize("name", KINDS)
def test_no_kind_exports_a_secret_and_each_is_a_valid_config(name: str, tmp_path: Path) -> None:
    """Once the places it names are filled, a check has nothing to say; what is public is as it was."""
    row = stored(every_kind()[name])
    found = export_integration(row)
    text = write({"version": 1, "integrations": {"crm": found.config}})
    assert CANARY not in text
    assert "PRIVATE KEY" not in text
    assert set(found.needs) == {need for need in found.needs if need in text}
    assert len(set(found.needs)) == len(row.secrets) == len(found.needs)
    path = tmp_path / "sidekey.yaml"
    path.write_text(text)
    before = load(path, {}, PRESENT)
    assert before.errors == []
    assert before.of("unreadable")
    path.write_text(fill(text, tmp_path, opened(row).values, found.config))
    after = load(path, {}, PRESENT)
    assert after.of("error", "unreadable") == []


def test_a_preset_is_exported_whole() -> None:
    """It has no secret; what was altered, or another version wrote, is left out."""
    document = {"integration": "crm", "url": "https://api.example.com/v1/x", "content_type": "text/plain"}
    row = PresetRow(row="r", id="hook", document=json.dumps(document))
    assert export_preset(row) == Exported(document, ())
    with pytest.raises(NotExported, match="something other than Sidekey changed its row"):
        export_preset(replace(row, verified=False))
    with pytest.raises(NotExported, match="not valid any more: more: "):
        export_preset(replace(row, document=json.dumps({**document, "more": 1})))


def test_the_names_of_files_are_of_the_id_and_the_place() -> None:
    """None are the same, and each may be a key of a Kubernetes secret."""
    assert export_integration(stored(BASIC)).needs == (
        "secrets/crm.auth.username.txt",
        "secrets/crm.auth.password.txt",
    )
    assert export_integration(stored(HEADERS)).needs == ("secrets/crm.auth.headers.Authorization.secret.txt",)
    assert export_integration(stored(every_kind()["mtls"])).needs == ("secrets/crm.auth.private_key.pem",)
    _, odd, long = export_integration(stored(every_kind()["odd"])).needs
    assert odd == "secrets/crm.auth.token_request.body.a_b_c-7dc34f93.txt"
    assert re.fullmatch(r"secrets/crm\.auth\.token_request\.body\._{48}-[0-9a-f]{8}\.txt", long)


def test_urls_are_sealed_and_something_stands_in_their_place() -> None:
    """They may give access by themselves."""
    found = export_integration(stored(every_kind()["by_url"]))
    block = found.config["client_certificate"]
    assert block == {
        "certificate": {"url": "https://fill-in.invalid/crm.client_certificate.certificate.url"},
        "private_key": {"url": "https://fill-in.invalid/crm.client_certificate.private_key.url"},
        "refresh": "2h",
    }
    assert set(found.needs) == {
        "secrets/crm.auth.username.txt",
        "secrets/crm.auth.password.txt",
        block["certificate"]["url"],
        block["private_key"]["url"],
    }


def test_a_profile_is_exported_by_name_while_it_brings_what_was_saved() -> None:
    """Else what it brought then, which is what is in use; and that is said."""
    row = stored(PROFILE)
    found = export_integration(row)
    assert found.notes == ()
    assert found.config == {
        "auth": {**PROFILE["auth"], "client_secret": {"file": "secrets/crm.auth.client_secret.txt"}}
    }
    saved: Any = json.loads(row.document)
    saved["profile"]["keys"]["auth"]["token_endpoint"] = "https://auth.former.example.com/oauth/token"
    found = export_integration(replace(row, document=json.dumps(saved)))
    assert "provider commercetools brings something else now" in found.notes[0]
    assert found.config["auth"] == {
        "type": "oauth2",
        "client_id": "id",
        "client_secret": {"file": "secrets/crm.auth.client_secret.txt"},
        "token_endpoint": "https://auth.former.example.com/oauth/token",
        "client_authentication": "header",
    }
    assert found.config["allowed_domains"] == saved["profile"]["keys"]["allowed_domains"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verified": False}, "something other than Sidekey changed its row"),
        ({"document": "x"}, "its document is not what this version of Sidekey saves"),
        ({"document": '{"integration":{"auth":{"type":"smoke"}}}'}, "not valid any more: auth.type: must be one of"),
    ],
)
def test_what_cannot_be_exported_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotExported, match=reason):
        export_integration(replace(stored(BASIC), **change))


@pytest.mark.parametrize(("granted", "written"), [(None, "*"), ((), []), (("crm", "sms"), ["crm", "sms"])])
def test_a_caller_is_exported_without_the_hash_of_its_token(granted: tuple[str, ...] | None, written: Any) -> None:
    row = CallerRow(row="r", id="billing", token_sha256="ab" * 32, integrations=granted)
    found = export_caller(row)
    assert found.config == {"token": {"file": "secrets/callers/billing.txt"}, "integrations": written}
    assert found.needs == ("secrets/callers/billing.txt",)
    presets = export_caller(replace(row, presets=granted)).config.get("presets", [])
    assert presets == written


@pytest.mark.parametrize("gone", [False, True])
def test_the_secret_of_a_profile_is_a_file_under_its_name(gone: bool) -> None:
    """Also where the profile has changed since, and what it brought then is written out."""
    row = stored(PROFILE_KEY)
    if gone:
        row = replace(row, document=row.document.replace("https://a.klaviyo.com", "https://b.klaviyo.com"))
    found = export_integration(row)
    reference = {"file": "secrets/crm.auth.key.txt"}
    assert found.needs == ("secrets/crm.auth.key.txt",)
    if gone:
        assert found.config["auth"]["headers"]["Authorization"]["secret"] == reference
        assert found.config["endpoint_prefix"] == "https://b.klaviyo.com"
    else:
        assert found.config == {"auth": {"type": "headers", "provider": "klaviyo", "key": reference}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    leaf = chain().leaf
    (tmp_path / "secret").write_text("the secret\n")
    (tmp_path / "tls.crt").write_bytes("Bag Attributes: B\xfccher\n".encode("latin-1") + leaf.pem)
    (tmp_path / "tls.key").write_bytes(leaf.key_as())
    (tmp_path / "ca.pem").write_bytes(chain().root.pem)
    return tmp_path


def headers(value: Any) -> dict[str, Any]:
    return {**PREFIX, "auth": {"type": "headers", "headers": {"X-Key": value}}}


@pytest.mark.parametrize(
    ("written", "stored_as"),
    [
        ({"secret": {"file": "secret"}}, {"secret": {"value": "the secret"}}),
        ({"secret": {"env": "KEY"}}, {"secret": {"value": "of the environment"}}),
        ({"prefix": "Bearer ", "secret": {"insecure_value": "x"}}, {"prefix": "Bearer ", "secret": {"value": "x"}}),
        ({"prefix": {"env": "KEY"}, "secret": {"file": "secret"}}, None),
        ("public", "public"),
        ({"file": "secret"}, {"secret": {"value": "the secret"}}),
        ({"env": "KEY"}, {"secret": {"value": "of the environment"}}),
    ],
)
def test_a_header_of_another_place_is_sealed(written: Any, stored_as: Any, folder: Path) -> None:
    """Also where the file calls it public: it was kept apart, and in the store public ones are readable."""
    found = rewritten_of(headers(written), folder, {"KEY": "of the environment"})
    assert found.errors == ()
    expected = stored_as or {"prefix": "of the environment", "secret": {"value": "the secret"}}
    assert found.document["auth"]["headers"]["X-Key"] == expected
    assert bool(found.warnings) is (stored_as is None)
    draft(found.document)


def test_public_texts_become_readable_and_that_is_told(folder: Path) -> None:
    """By the place, never by the value."""
    raw = {
        "endpoint_prefix": {"env": "BASE"},
        "auth": {"type": "basic", "username": {"file": "secret"}, "password": {"env": "KEY"}},
    }
    found = rewritten_of(raw, folder, {"KEY": "k", "BASE": "https://api.example.com/v1"})
    assert found.document == {
        "endpoint_prefix": "https://api.example.com/v1",
        "auth": {"type": "basic", "username": {"value": "the secret"}, "password": {"value": "k"}},
    }
    assert {each.loc for each in found.warnings} == {("endpoint_prefix",)}
    assert "api.example.com" not in str(found.warnings)


def test_plain_user_name_of_a_file_becomes_a_secret(folder: Path) -> None:
    """What a profile brings stays with the profile, and an empty name stays empty."""

    def auth(**keys: Any) -> Any:
        found = rewritten_of({**PREFIX, "auth": {"type": "basic", **keys}}, folder, {"KEY": "k"})
        draft(found.document)
        return found.document["auth"]

    secret = {"env": "KEY"}
    assert auth(username="svc", password=secret)["username"] == {"value": "svc"}
    assert auth(username="", password=secret)["username"] == ""
    mailchimp = auth(provider="mailchimp", dc="us6", key=secret)
    assert mailchimp == {"type": "basic", "provider": "mailchimp", "dc": "us6", "key": {"value": "k"}}
    twilio = auth(provider="twilio-api-key", sid="SK1", secret=secret)
    assert twilio == {
        "type": "basic",
        "provider": "twilio-api-key",
        "sid": {"value": "SK1"},
        "secret": {"value": "k"},
    }


def test_prefixes_in_a_list_are_read_one_by_one(folder: Path) -> None:
    raw = {**documents()["basic"], "endpoint_prefix": ["https://a.example.com", {"env": "BASE"}]}
    raw["auth"] = {**raw["auth"], "username": "svc", "password": {"file": "secret"}}
    found = rewritten_of(raw, folder, {"BASE": "https://b.example.com"})
    assert found.document["endpoint_prefix"] == ["https://a.example.com", "https://b.example.com"]


def test_certificates_and_cas_become_inline_and_keys_are_sealed(folder: Path) -> None:
    """Whatever is around the blocks, in whichever encoding."""
    raw = {
        **PREFIX,
        "trusted_ca": {"file": "ca.pem"},
        "auth": {
            "type": "mtls",
            "certificate": {"file": "tls.crt"},
            "private_key": {"file": "tls.key"},
            "allow_private_ca": True,
        },
    }
    found = rewritten_of(raw, folder)
    assert found.errors == found.warnings == ()
    assert found.document["trusted_ca"] == {"inline": chain().root.pem.decode()}
    assert found.document["auth"]["certificate"] == {"inline": "Bag Attributes: B?cher\n" + chain().leaf.pem.decode()}
    row = stored(found.document)
    assert opened(row).values == {"/auth/private_key": chain().leaf.key_as().decode()}


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    """All of it at once."""
    raw = {
        **PREFIX,
        "trusted_ca": {"file": "no.pem"},
        "auth": {"type": "basic", "username": {"env": "NO_USER"}, "password": {"file": "none.txt"}},
    }
    found = rewritten_of(raw, folder)
    assert {each.loc: each.message for each in found.errors} == {
        ("trusted_ca",): "no.pem does not exist; a relative path starts at the config file's folder",
        ("auth", "username"): "environment variable NO_USER is not set",
        ("auth", "password"): "none.txt does not exist; a relative path starts at the config file's folder",
    }


def test_what_stands_for_a_url_is_refused(folder: Path) -> None:
    """It would be fetched for good, and never be there."""
    block = {"certificate": {"file": "tls.crt"}, "private_key": {"url": "https://fill-in.invalid/crm.url"}}
    found = rewritten_of({**PREFIX, "auth": {"type": "mtls", **block}}, folder)
    assert [each.loc for each in found.errors] == [("auth", "private_key")]
    assert "must be the URL itself" in found.errors[0].message


def test_a_pointer_leads_to_a_place_in_a_file() -> None:
    raw = {"a": [{"b/c": 1}], "d": {}}
    assert locate(raw, "") == ()
    assert locate(raw, "/a/0/b~1c") == ("a", 0, "b/c")
    assert locate(raw, "/a/5/x") == ("a", 5, "x")
    assert locate(raw, "/d/secret/value") == ("d", "secret", "value")
    assert locate(raw, "/d/0") == ("d", "0")


@pytest.mark.parametrize("name", sorted(every_kind()))
@pytest.mark.parametrize("written", [{"set": True, "id": "s_1"}, {"value": "entered"}], ids=["kept", "value"])
def test_no_file_keeps_a_secret_that_is_stored(name: str, written: dict[str, Any]) -> None:
    """What would be sealed for another destination must come with the file: each place is an error."""
    document = every_kind()[name]
    secrets = [locate(document, where) for where in entered(draft(document))]
    errors = validate(replaced(document, dict.fromkeys(secrets, written)), Context("file")).errors
    places = {each.loc for each in errors}
    for place in secrets:
        assert any(place[: len(loc)] == loc for loc in places), place
