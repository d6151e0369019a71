"""The one function that opens, and for what it does not."""

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
    opened,
    reader_of,
    settings_in,
    stored,
)


@pytest.mark.parametrize("name", documents())
def test_what_was_entered_opens(name: str) -> None:
    """For the settings that it was entered for."""
    found = opened(stored(documents()[name]))
    assert found.values
    assert found.refused == {}


def test_a_value_opens_in_no_other_row_or_field() -> None:
    """Whatever put it there."""
    row, other = stored(OAUTH2), stored(OAUTH2, "other")
    first, second = row.secrets
    swapped = replace(row, secrets={first: row.secrets[second], second: row.secrets[first]})
    # Or the IDs in the document.
    renamed = replace(row, document=row.document.replace(first, "<1>").replace(second, first).replace("<1>", second))
    foreign = replace(row, secrets=dict(zip(row.secrets, other.secrets.values(), strict=True)))
    for moved in (swapped, renamed, foreign, replace(row, id="other"), replace(row, row="r")):
        found = opened(moved)
        assert found.values == {}
        assert all("enter it again" in reason for reason in found.refused.values())


def test_a_value_that_the_document_has_twice_opens_nowhere() -> None:
    """An editor of the database sends one secret in the place of another, too."""
    row = stored(OAUTH2)
    first, second = row.secrets
    for one, other in ((first, second), (second, first)):
        twice = replace(row, document=row.document.replace(other, one))
        assert len(set(opened(twice).refused)) == 2


def test_a_value_opens_in_no_other_store() -> None:
    """Nor after a bit of it was flipped."""
    row = stored(BASIC)
    assert opened(row, SealingKeys("another", VAULT.ring)).values == {}
    password = ids(row)["/auth/password"]
    sealed = row.secrets[password]
    flipped = sealed.sealed[:-2] + ("A" if sealed.sealed[-2] != "A" else "B") + sealed.sealed[-1]
    assert opened(replace(row, secrets={password: replace(sealed, sealed=flipped)})).values == {}


def test_a_key_that_is_missing_is_named() -> None:
    """So that whoever runs it knows what to do."""
    found = opened(stored(BASIC), SealingKeys(VAULT.store, KeyRing({"k2": b"2" * 32})))
    reason = "the stored secret cannot be opened: key k1 is missing in store.keys"
    assert found.refused == {"/auth/username": reason, "/auth/password": reason}


def test_a_document_that_says_more_is_kept_is_not_believed() -> None:
    """There is nothing to open."""
    row = stored(HEADERS)
    assert opened(replace(row, secrets={})).refused == {
        "/auth/headers/Authorization/secret": "no secret is stored here: enter it"
    }


@pytest.mark.parametrize("source", ["file", "env", "url", "insecure_value"])
def test_nothing_of_the_machine_is_read(source: str) -> None:
    """Even where a document was changed to say so."""
    row = stored(BASIC)
    reader = reader_of(row)
    with pytest.raises(ValueError, match="only a config file"):
        reader(Reference(source, "/etc/hostname"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="only a config file"):
        reader.raw(Reference(source, "/etc/hostname"), 100)  # type: ignore[arg-type]
    assert reader.file(Reference(source, "/etc/hostname")) is None  # type: ignore[arg-type]


def test_what_is_public_is_read_as_it_stands() -> None:
    """Texts, and certificates."""
    row = stored(BASIC)
    reader = reader_of(row)
    assert [reader(Reference(source, "x")) for source in ("text", "inline")] == ["x", "x"]
    assert reader.raw(Reference("text", "é"), 100) == "é".encode()


def test_keys_and_reader_are_not_shown_or_pickled() -> None:
    """Nor does a draft show what was entered."""
    row = stored(BASIC)
    reader = reader_of(row)
    assert repr((VAULT, reader)) == "(SealingKeys(store-of-tests, KeyRing(k1)), StoredReader(crm))"
    for each in (VAULT, reader):
        with pytest.raises(TypeError):
            pickle.dumps(each)
    assert CANARY not in json.dumps(row.document)


def test_what_a_profile_brought_decides_as_what_is_written() -> None:
    """An edit of it past Sidekey opens nothing; one of a parameter moves nothing, since that is not read again."""
    row = stored(PROFILE)
    moved = row.document.replace("auth.europe-west1.gcp.commercetools.com", "auth.evil.example.com")
    assert moved != row.document
    assert opened(replace(row, document=moved)).values == {}
    region = row.document.replace('"region":"europe-west1.gcp"', '"region":"us-central1.gcp"')
    assert region != row.document
    assert opened(replace(row, document=region)).values
    assert settings_in(region) == settings_in(row.document)


def test_a_secret_of_a_profile_opens_only_where_the_profile_put_it() -> None:
    """It is sealed under the profile's name for it, so that its place is part of what it is sealed for."""
    row = stored(PROFILE_KEY)
    assert list(ids(row)) == ["/auth/key"]
    elsewhere = row.document.replace('"Authorization"', '"X-Debug"')
    assert elsewhere != row.document
    assert opened(replace(row, document=elsewhere)).values == {}
    other = row.document.replace("https://a.klaviyo.com", "https://evil.example.com")
    assert other != row.document
    assert opened(replace(row, document=other)).values == {}


def test_no_document_that_is_saved_has_a_secret() -> None:
    """Neither as it was written, nor in what a profile brought."""
    for document in documents().values():
        assert CANARY not in stored(document).document
