"""Opening sealed secrets only for the purpose that they were entered for."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from sidekey.config.stored.secrets import SealingKeys
from sidekey.credentials.fields import Reference
from sidekey.store.sealing import KeyRing
from support.stored import (
    BASIC,
    CANARY,
    HEADERS,
    OAUTH2,
    PROFILE,
    PROFILE_KEY,
    VAULT,
    documents,
    ids,
    open_secrets,
    reader_of,
    settings_in,
    stored,
)


@pytest.mark.parametrize("name", documents())
def test_secrets_open_for_their_own_settings(name: str) -> None:
    result = open_secrets(stored(documents()[name]))
    assert result.values
    assert result.refused == {}


def test_secret_does_not_open_in_another_row_or_field() -> None:
    row, other = stored(OAUTH2), stored(OAUTH2, "other")
    first, second = row.secrets
    swapped = replace(row, secrets={first: row.secrets[second], second: row.secrets[first]})
    # Or swap the IDs in the document.
    renamed = replace(row, document=row.document.replace(first, "<1>").replace(second, first).replace("<1>", second))
    foreign = replace(row, secrets=dict(zip(row.secrets, other.secrets.values(), strict=True)))
    for moved in (swapped, renamed, foreign, replace(row, id="other"), replace(row, row_id="r")):
        result = open_secrets(moved)
        assert result.values == {}
        assert all("enter it again" in reason for reason in result.refused.values())


def test_secret_that_the_document_uses_twice_does_not_open() -> None:
    """Someone with write access to the database could send one secret in the place of another."""
    row = stored(OAUTH2)
    first, second = row.secrets
    for original, replaced in ((first, second), (second, first)):
        twice = replace(row, document=row.document.replace(replaced, original))
        assert len(set(open_secrets(twice).refused)) == 2


def test_secret_does_not_open_in_another_store_or_after_a_bit_flip() -> None:
    row = stored(BASIC)
    assert open_secrets(row, SealingKeys("another", VAULT.ring)).values == {}
    password = ids(row)["/auth/password"]
    sealed = row.secrets[password]
    flipped = sealed.sealed[:-2] + ("A" if sealed.sealed[-2] != "A" else "B") + sealed.sealed[-1]
    assert open_secrets(replace(row, secrets={password: replace(sealed, sealed=flipped)})).values == {}


def test_missing_key_is_named() -> None:
    result = open_secrets(stored(BASIC), SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32})))
    reason = "the stored secret cannot be opened: key k1 is missing in store.keys"
    assert result.refused == {"/auth/username": reason, "/auth/password": reason}


def test_document_cannot_claim_a_secret_that_the_row_lacks() -> None:
    row = stored(HEADERS)
    assert open_secrets(replace(row, secrets={})).refused == {
        "/auth/headers/Authorization/secret": "no secret is stored here: enter it"
    }


@pytest.mark.parametrize("source", ["file", "env", "url", "insecure_value"])
def test_stored_integration_cannot_read_files_or_the_environment(source: str) -> None:
    """Even if someone changes the document in the database."""
    row = stored(BASIC)
    reader = reader_of(row)
    with pytest.raises(ValueError, match="only a config file"):
        reader(Reference(source, "/etc/hostname"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only a config file"):
        reader.raw(Reference(source, "/etc/hostname"), 100)  # type: ignore[arg-type]
    assert reader.file(Reference(source, "/etc/hostname")) is None  # type: ignore[arg-type]


def test_public_values_are_read_unchanged() -> None:
    row = stored(BASIC)
    reader = reader_of(row)
    assert [reader(Reference(source, "x")) for source in ("text", "inline")] == ["x", "x"]
    assert reader.raw(Reference("text", "é"), 100) == "é".encode()


def test_keys_and_reader_are_not_shown_or_pickled() -> None:
    row = stored(BASIC)
    reader = reader_of(row)
    assert repr((VAULT, reader)) == "(SealingKeys(store-of-tests, KeyRing(k1)), StoredReader(crm))"
    for holder in (VAULT, reader):
        with pytest.raises(TypeError):
            pickle.dumps(holder)
    assert CANARY not in json.dumps(row.document)


def test_saved_profile_values_are_part_of_the_purpose() -> None:
    """A changed value opens no secret. A changed parameter has no effect, because the profile is not expanded again."""
    row = stored(PROFILE)
    moved = row.document.replace("auth.europe-west1.gcp.commercetools.com", "auth.evil.example.com")
    assert moved != row.document
    assert open_secrets(replace(row, document=moved)).values == {}
    region = row.document.replace('"region":"europe-west1.gcp"', '"region":"us-central1.gcp"')
    assert region != row.document
    assert open_secrets(replace(row, document=region)).values
    assert settings_in(region) == settings_in(row.document)


def test_secret_of_a_profile_opens_only_at_the_place_of_the_profile() -> None:
    """It is sealed under the profile's name for it."""
    row = stored(PROFILE_KEY)
    assert list(ids(row)) == ["/auth/key"]
    elsewhere = row.document.replace('"Authorization"', '"X-Debug"')
    assert elsewhere != row.document
    assert open_secrets(replace(row, document=elsewhere)).values == {}
    other = row.document.replace("https://a.klaviyo.com", "https://evil.example.com")
    assert other != row.document
    assert open_secrets(replace(row, document=other)).values == {}
