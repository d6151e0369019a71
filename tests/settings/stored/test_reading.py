"""What is read of a stored integration."""

from __future__ import annotations

import json

import pytest

from sidekey.settings.stored.reading import instant, shown
from support.stored import CANARY, chain, documents, former, stored


@pytest.mark.parametrize("name", documents())
def test_no_part_of_a_secret_is_shown(name: str) -> None:
    """Neither what was entered nor what is sealed; of a certificate only what it says."""
    row = stored(documents()[name])
    text = json.dumps(shown(former(row), row.secrets))
    assert CANARY not in text
    assert "PRIVATE KEY" not in text
    assert "BEGIN CERTIFICATE" not in text
    assert not [each for each in row.secrets.values() if each.sealed in text]


def test_a_secret_reads_as_set_by_whom_and_when() -> None:
    """And nothing else."""
    row = stored(documents()["basic"])
    assert shown(former(row), row.secrets)["auth"]["password"] == {
        "set": True,
        "updated_at": "1970-01-01T00:00:01Z",
        "updated_by": "ann",
    }


def test_a_certificate_reads_as_what_it_says() -> None:
    """Subject, issuer and expiry."""
    row = stored(documents()["mtls"])
    leaf = chain().leaf.certificate
    assert shown(former(row), row.secrets)["auth"]["certificate"] == {
        "set": True,
        "subject": "CN=client.example",
        "issuer": "CN=Bank Client CA",
        "not_after": instant(leaf.not_valid_after_utc.timestamp()),
    }


def test_what_is_public_is_shown_as_it_was_written() -> None:
    """The parameters of a profile among it."""
    document = documents()["profile"]
    row = stored(document)
    read = shown(former(row), row.secrets)
    assert {**read["auth"], "client_secret": 1} == {**document["auth"], "client_secret": 1}
