"""An integration of a file, with what it refers to in place of references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidekey.credentials.context import Context
from sidekey.settings.stored.document import replaced
from sidekey.settings.stored.importing import place_in
from sidekey.settings.validated import validate
from support.stored import PREFIX, chain, documents, draft, entered, opened, stored
from support.transfer import every_kind, rewritten_of


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
    assert place_in(raw, "") == ()
    assert place_in(raw, "/a/0/b~1c") == ("a", 0, "b/c")
    assert place_in(raw, "/a/5/x") == ("a", 5, "x")
    assert place_in(raw, "/d/secret/value") == ("d", "secret", "value")
    assert place_in(raw, "/d/0") == ("d", "0")


@pytest.mark.parametrize("name", sorted(every_kind()))
@pytest.mark.parametrize("written", [{"set": True, "id": "s_1"}, {"value": "entered"}], ids=["kept", "value"])
def test_no_file_keeps_a_secret_that_is_stored(name: str, written: dict[str, Any]) -> None:
    """What would be sealed for another destination must come with the file: each place is an error."""
    document = every_kind()[name]
    secrets = [place_in(document, where) for where in entered(draft(document))]
    errors = validate(replaced(document, dict.fromkeys(secrets, written)), Context("file")).errors
    places = {each.loc for each in errors}
    for place in secrets:
        assert any(place[: len(loc)] == loc for loc in places), place
