"""Export to config files, and import of integrations from them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidekey.config.load import load
from sidekey.config.stored.document import with_values
from sidekey.config.stored.transfer import (
    Exported,
    NotExported,
    export_caller,
    export_integration,
    export_preset,
    loc_of_pointer,
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
    entered_values,
    open_secrets,
    stored,
)
from support.transfer import every_kind, fill, import_integration

KINDS = sorted(every_kind())


@pytest.mark.parametrize("name", KINDS)
def test_export_has_no_secret_and_loads_once_its_needs_are_filled(name: str, tmp_path: Path) -> None:
    row = stored(every_kind()[name])
    exported = export_integration(row)
    text = write({"version": 1, "integrations": {"crm": exported.config}})
    assert CANARY not in text
    assert "PRIVATE KEY" not in text
    assert set(exported.needs) == {need for need in exported.needs if need in text}
    assert len(set(exported.needs)) == len(row.secrets) == len(exported.needs)
    path = tmp_path / "sidekey.yaml"
    path.write_text(text)
    before = load(path, {}, PRESENT)
    assert before.errors == []
    assert before.of("unreadable")
    path.write_text(fill(text, tmp_path, open_secrets(row).values, exported.config))
    after = load(path, {}, PRESENT)
    assert after.of("error", "unreadable") == []


def test_preset_is_exported_unless_altered_or_invalid() -> None:
    document = {"integration": "crm", "url": "https://api.example.com/v1/x", "content_type": "text/plain"}
    row = PresetRow(row_id="r", id="hook", document=json.dumps(document))
    assert export_preset(row) == Exported(document, ())
    with pytest.raises(NotExported, match="something other than Sidekey changed its row"):
        export_preset(replace(row, verified=False))
    with pytest.raises(NotExported, match="not valid any more: more: "):
        export_preset(replace(row, document=json.dumps({**document, "more": 1})))


def test_secret_files_are_named_by_id_and_place() -> None:
    """Names are unique, and valid as keys of a Kubernetes Secret."""
    assert export_integration(stored(BASIC)).needs == (
        "secrets/crm.auth.username.txt",
        "secrets/crm.auth.password.txt",
    )
    assert export_integration(stored(HEADERS)).needs == ("secrets/crm.auth.headers.Authorization.secret.txt",)
    assert export_integration(stored(every_kind()["mtls"])).needs == ("secrets/crm.auth.private_key.pem",)
    _, odd, long = export_integration(stored(every_kind()["odd"])).needs
    assert odd == "secrets/crm.auth.token_request.body.a_b_c-7dc34f93.txt"
    assert re.fullmatch(r"secrets/crm\.auth\.token_request\.body\._{48}-[0-9a-f]{8}\.txt", long)


def test_placeholder_replaces_a_sealed_url() -> None:
    """A URL may give access by itself."""
    exported = export_integration(stored(every_kind()["by_url"]))
    block = exported.config["client_certificate"]
    assert block == {
        "certificate": {"url": "https://fill-in.invalid/crm.client_certificate.certificate.url"},
        "private_key": {"url": "https://fill-in.invalid/crm.client_certificate.private_key.url"},
        "refresh": "2h",
    }
    assert set(exported.needs) == {
        "secrets/crm.auth.username.txt",
        "secrets/crm.auth.password.txt",
        block["certificate"]["url"],
        block["private_key"]["url"],
    }


def test_changed_profile_is_exported_with_its_saved_values() -> None:
    """An unchanged profile is exported by its name."""
    row = stored(PROFILE)
    exported = export_integration(row)
    assert exported.notes == ()
    assert exported.config == {
        "auth": {**PROFILE["auth"], "client_secret": {"file": "secrets/crm.auth.client_secret.txt"}}
    }
    saved: Any = json.loads(row.document)
    saved["profile"]["keys"]["auth"]["token_endpoint"] = "https://auth.former.example.com/oauth/token"
    exported = export_integration(replace(row, document=json.dumps(saved)))
    assert "provider commercetools adds other keys now" in exported.notes[0]
    assert exported.config["auth"] == {
        "type": "oauth2",
        "client_id": "id",
        "client_secret": {"file": "secrets/crm.auth.client_secret.txt"},
        "token_endpoint": "https://auth.former.example.com/oauth/token",
        "client_authentication": "header",
    }
    assert exported.config["allowed_domains"] == saved["profile"]["keys"]["allowed_domains"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verified": False}, "something other than Sidekey changed its row"),
        ({"document": "x"}, "its document is not what this version of Sidekey saves"),
        ({"document": '{"integration":{"auth":{"type":"smoke"}}}'}, "not valid any more: auth.type: must be one of"),
    ],
)
def test_invalid_row_is_not_exported(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotExported, match=reason):
        export_integration(replace(stored(BASIC), **change))


@pytest.mark.parametrize(("granted", "written"), [(None, "*"), ((), []), (("crm", "sms"), ["crm", "sms"])])
def test_caller_is_exported_without_its_token_hash(granted: tuple[str, ...] | None, written: Any) -> None:
    row = CallerRow(row_id="r", id="billing", token_sha256="ab" * 32, integrations=granted)
    exported = export_caller(row)
    assert exported.config == {"token": {"file": "secrets/callers/billing.txt"}, "integrations": written}
    assert exported.needs == ("secrets/callers/billing.txt",)
    presets = export_caller(replace(row, presets=granted)).config.get("presets", [])
    assert presets == written


@pytest.mark.parametrize("changed", [False, True])
def test_secret_of_a_profile_is_exported_under_its_name(changed: bool) -> None:
    """If the profile has changed, its saved values are written out."""
    row = stored(PROFILE_KEY)
    if changed:
        row = replace(row, document=row.document.replace("https://a.klaviyo.com", "https://b.klaviyo.com"))
    exported = export_integration(row)
    reference = {"file": "secrets/crm.auth.key.txt"}
    assert exported.needs == ("secrets/crm.auth.key.txt",)
    if changed:
        assert exported.config["auth"]["headers"]["Authorization"]["secret"] == reference
        assert exported.config["endpoint_prefix"] == "https://b.klaviyo.com"
    else:
        assert exported.config == {"auth": {"type": "headers", "provider": "klaviyo", "key": reference}}


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
def test_header_from_file_or_environment_becomes_a_secret(written: Any, stored_as: Any, folder: Path) -> None:
    """The file kept the value elsewhere, and public values of the store are readable."""
    imported = import_integration(headers(written), folder, {"KEY": "of the environment"})
    assert imported.errors == ()
    expected = stored_as or {"prefix": "of the environment", "secret": {"value": "the secret"}}
    assert imported.document["auth"]["headers"]["X-Key"] == expected
    assert bool(imported.warnings) is (stored_as is None)
    draft(imported.document)


def test_public_value_from_the_environment_is_imported_with_a_warning(folder: Path) -> None:
    """The warning names the place, never the value."""
    raw = {
        "endpoint_prefix": {"env": "BASE"},
        "auth": {"type": "basic", "username": {"file": "secret"}, "password": {"env": "KEY"}},
    }
    imported = import_integration(raw, folder, {"KEY": "k", "BASE": "https://api.example.com/v1"})
    assert imported.document == {
        "endpoint_prefix": "https://api.example.com/v1",
        "auth": {"type": "basic", "username": {"value": "the secret"}, "password": {"value": "k"}},
    }
    assert {warning.loc for warning in imported.warnings} == {("endpoint_prefix",)}
    assert "api.example.com" not in str(imported.warnings)


def test_plain_user_name_of_a_file_becomes_a_secret(folder: Path) -> None:
    """Values from a profile and an empty user name stay public."""

    def auth(**keys: Any) -> Any:
        imported = import_integration({**PREFIX, "auth": {"type": "basic", **keys}}, folder, {"KEY": "k"})
        draft(imported.document)
        return imported.document["auth"]

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


def test_references_in_a_list_of_prefixes_are_read(folder: Path) -> None:
    raw = {**documents()["basic"], "endpoint_prefix": ["https://a.example.com", {"env": "BASE"}]}
    raw["auth"] = {**raw["auth"], "username": "svc", "password": {"file": "secret"}}
    imported = import_integration(raw, folder, {"BASE": "https://b.example.com"})
    assert imported.document["endpoint_prefix"] == ["https://a.example.com", "https://b.example.com"]


def test_certificates_and_cas_become_inline_and_keys_secret(folder: Path) -> None:
    """Text around the blocks may have any encoding."""
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
    imported = import_integration(raw, folder)
    assert imported.errors == imported.warnings == ()
    assert imported.document["trusted_ca"] == {"inline": chain().root.pem.decode()}
    assert imported.document["auth"]["certificate"] == {
        "inline": "Bag Attributes: B?cher\n" + chain().leaf.pem.decode()
    }
    row = stored(imported.document)
    assert open_secrets(row).values == {"/auth/private_key": chain().leaf.key_as().decode()}


def test_every_unreadable_reference_is_an_error(folder: Path) -> None:
    raw = {
        **PREFIX,
        "trusted_ca": {"file": "no.pem"},
        "auth": {"type": "basic", "username": {"env": "NO_USER"}, "password": {"file": "none.txt"}},
    }
    imported = import_integration(raw, folder)
    assert {error.loc: error.message for error in imported.errors} == {
        ("trusted_ca",): "no.pem does not exist; a relative path starts at the config file's folder",
        ("auth", "username"): "environment variable NO_USER is not set",
        ("auth", "password"): "none.txt does not exist; a relative path starts at the config file's folder",
    }


def test_placeholder_of_a_url_is_refused(folder: Path) -> None:
    """Otherwise Sidekey would fetch it forever."""
    block = {"certificate": {"file": "tls.crt"}, "private_key": {"url": "https://fill-in.invalid/crm.url"}}
    imported = import_integration({**PREFIX, "auth": {"type": "mtls", **block}}, folder)
    assert [error.loc for error in imported.errors] == [("auth", "private_key")]
    assert "must be the URL itself" in imported.errors[0].message


def test_pointer_is_located_in_a_file() -> None:
    raw = {"a": [{"b/c": 1}], "d": {}}
    assert loc_of_pointer(raw, "") == ()
    assert loc_of_pointer(raw, "/a/0/b~1c") == ("a", 0, "b/c")
    assert loc_of_pointer(raw, "/a/5/x") == ("a", 5, "x")
    assert loc_of_pointer(raw, "/d/secret/value") == ("d", "secret", "value")
    assert loc_of_pointer(raw, "/d/0") == ("d", "0")


@pytest.mark.parametrize("name", sorted(every_kind()))
@pytest.mark.parametrize("written", [{"set": True, "id": "s_1"}, {"value": "entered"}], ids=["kept", "value"])
def test_file_cannot_keep_or_enter_a_stored_secret(name: str, written: dict[str, Any]) -> None:
    """A file must bring its secrets, because they could be sealed for another destination."""
    document = every_kind()[name]
    secrets = [loc_of_pointer(document, pointer) for pointer in entered_values(draft(document))]
    errors = validate(with_values(document, dict.fromkeys(secrets, written)), Context("file")).errors
    places = {error.loc for error in errors}
    for place in secrets:
        assert any(place[: len(loc)] == loc for loc in places), place
