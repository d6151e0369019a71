"""What is read of a stored integration."""

from __future__ import annotations

import json

import pytest

from sidekey.config.stored.rows import show_document
from support.stored import CANARY, documents, ids, stored


@pytest.mark.parametrize("name", documents())
def test_no_part_of_a_secret_is_shown(name: str) -> None:
    """Neither what was entered nor what is sealed."""
    row = stored(documents()[name])
    text = json.dumps(show_document(row))
    assert CANARY not in text
    assert "PRIVATE KEY" not in text
    assert not [each for each in row.secrets.values() if each.sealed in text]


def test_a_secret_reads_as_set_by_whom_and_when() -> None:
    """And nothing else."""
    row = stored(documents()["basic"])
    assert show_document(row)["auth"]["password"] == {
        "set": True,
        "id": ids(row)["/auth/password"],
        "set_at": "1970-01-01T00:00:01Z",
        "set_by": "ann",
    }


def test_a_certificate_is_shown_as_it_was_written() -> None:
    """It is public."""
    row = stored(documents()["mtls"])
    assert show_document(row)["auth"]["certificate"] == documents()["mtls"]["auth"]["certificate"]


def test_what_is_public_is_shown_as_it_was_written() -> None:
    """The parameters of a profile among it."""
    document = documents()["profile"]
    row = stored(document)
    read = show_document(row)
    assert {**read["auth"], "client_secret": 1} == {**document["auth"], "client_secret": 1}
