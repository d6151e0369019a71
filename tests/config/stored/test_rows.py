"""The document of a row as the API shows it."""

from __future__ import annotations

import json

import pytest

from sidekey.config.stored.rows import document_for_api
from support.stored import CANARY, documents, ids, stored


@pytest.mark.parametrize("name", documents())
def test_shown_document_has_no_secret(name: str) -> None:
    """Neither a plain nor a sealed value."""
    row = stored(documents()[name])
    text = json.dumps(document_for_api(row))
    assert CANARY not in text
    assert "PRIVATE KEY" not in text
    assert not [secret for secret in row.secrets.values() if secret.sealed in text]


def test_secret_is_shown_with_its_author_and_time() -> None:
    row = stored(documents()["basic"])
    assert document_for_api(row)["auth"]["password"] == {
        "set": True,
        "id": ids(row)["/auth/password"],
        "set_at": "1970-01-01T00:00:01Z",
        "set_by": "ann",
    }


def test_public_values_are_shown() -> None:
    """Including the parameters of a profile."""
    document = documents()["profile"]
    row = stored(document)
    shown = document_for_api(row)
    assert {**shown["auth"], "client_secret": 1} == {**document["auth"], "client_secret": 1}
