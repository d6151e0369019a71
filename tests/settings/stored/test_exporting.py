"""What is stored, as config files say it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidekey.settings.load import load
from sidekey.settings.stored.exporting import (
    Exported,
    NotExported,
    exported_caller,
    exported_integration,
    exported_preset,
)
from sidekey.settings.writing import write
from sidekey.store.records import CallerRow, PresetRow
from support.stored import BASIC, CANARY, HEADERS, PRESENT, PROFILE, PROFILE_KEY, opened, stored
from support.transfer import every_kind, fill

KINDS = sorted(every_kind())


@pytest.mark.parametrize("name", KINDS)
def test_no_kind_exports_a_secret_and_each_is_a_valid_config(name: str, tmp_path: Path) -> None:
    """Once the places it names are filled, a check has nothing to say; what is public is as it was."""
    row = stored(every_kind()[name])
    found = exported_integration(row)
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
    assert exported_preset(row) == Exported(document, ())
    with pytest.raises(NotExported, match="something other than Sidekey changed its row"):
        exported_preset(replace(row, verified=False))
    with pytest.raises(NotExported, match="not valid any more: more: "):
        exported_preset(replace(row, document=json.dumps({**document, "more": 1})))


def test_the_names_of_files_are_of_the_id_and_the_place() -> None:
    """None are the same, and each may be a key of a Kubernetes secret."""
    assert exported_integration(stored(BASIC)).needs == (
        "secrets/crm.auth.username.txt",
        "secrets/crm.auth.password.txt",
    )
    assert exported_integration(stored(HEADERS)).needs == ("secrets/crm.auth.headers.Authorization.secret.txt",)
    assert exported_integration(stored(every_kind()["mtls"])).needs == ("secrets/crm.auth.private_key.pem",)
    _, odd, long = exported_integration(stored(every_kind()["odd"])).needs
    assert odd == "secrets/crm.auth.token_request.body.a_b_c-7dc34f93.txt"
    assert re.fullmatch(r"secrets/crm\.auth\.token_request\.body\._{48}-[0-9a-f]{8}\.txt", long)


def test_urls_are_sealed_and_something_stands_in_their_place() -> None:
    """They may give access by themselves."""
    found = exported_integration(stored(every_kind()["by_url"]))
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
    found = exported_integration(row)
    assert found.notes == ()
    assert found.config == {
        "auth": {**PROFILE["auth"], "client_secret": {"file": "secrets/crm.auth.client_secret.txt"}}
    }
    saved: Any = json.loads(row.document)
    saved["profile"]["keys"]["auth"]["token_endpoint"] = "https://auth.former.example.com/oauth/token"
    found = exported_integration(replace(row, document=json.dumps(saved)))
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
        exported_integration(replace(stored(BASIC), **change))


@pytest.mark.parametrize(("granted", "written"), [(None, "*"), ((), []), (("crm", "sms"), ["crm", "sms"])])
def test_a_caller_is_exported_without_the_hash_of_its_token(granted: tuple[str, ...] | None, written: Any) -> None:
    row = CallerRow(row="r", id="billing", token_sha256="ab" * 32, integrations=granted)
    found = exported_caller(row)
    assert found.config == {"token": {"file": "secrets/callers/billing.txt"}, "integrations": written}
    assert found.needs == ("secrets/callers/billing.txt",)
    presets = exported_caller(replace(row, presets=granted)).config.get("presets", [])
    assert presets == written


@pytest.mark.parametrize("gone", [False, True])
def test_the_secret_of_a_profile_is_a_file_under_its_name(gone: bool) -> None:
    """Also where the profile has changed since, and what it brought then is written out."""
    row = stored(PROFILE_KEY)
    if gone:
        row = replace(row, document=row.document.replace("https://a.klaviyo.com", "https://b.klaviyo.com"))
    found = exported_integration(row)
    reference = {"file": "secrets/crm.auth.key.txt"}
    assert found.needs == ("secrets/crm.auth.key.txt",)
    if gone:
        assert found.config["auth"]["headers"]["Authorization"]["secret"] == reference
        assert found.config["endpoint_prefix"] == "https://b.klaviyo.com"
    else:
        assert found.config == {"auth": {"type": "headers", "provider": "klaviyo", "key": reference}}
