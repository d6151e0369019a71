"""Records: their serialization is pinned, and they show no secret."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from sidekey.store.records import CallerRow, PresetRow, Record, TokenRow, digest_of, new_token, parse_record
from support.stores import PINNED

INTEGRATION = replace(PINNED, updated_by="é")
CALLER = CallerRow(
    row_id="2" * 32,
    id="billing",
    version=1,
    token_sha256="a" * 64,
    integrations=("crm", "sms"),
    presets=None,
    created_at=4,
)
PRESET = PresetRow(
    row_id="4" * 32,
    id="welcome",
    version=1,
    document='{"integration":"crm","body":{"b":1,"a":2}}',
    created_at=5,
    updated_at=6,
    updated_by="é",
)
TOKEN = TokenRow(
    row_id="3" * 32,
    id="ops",
    version=2,
    role="sender",
    token_sha256="b" * 64,
    presets=("welcome",),
    per_day=20,
    expires_at=9,
    created_by="x",
)

BODIES = [
    (
        INTEGRATION,
        '{"created_at":5,"document":"{\\"auth\\":{\\"type\\":\\"basic\\"}}","secrets":{"s_1":'
        '{"sealed":"1:k1:AA","set_at":7,"set_by":"ops"}},"updated_at":6,"updated_by":"é"}',
    ),
    (
        PRESET,
        '{"created_at":5,"document":"{\\"integration\\":\\"crm\\",\\"body\\":{\\"b\\":1,\\"a\\":2}}","updated_at":6,'
        '"updated_by":"é"}',
    ),
    (
        CALLER,
        '{"created_at":4,"integrations":["crm","sms"],"presets":"*","token_sha256":"' + "a" * 64 + '","updated_at":0,'
        '"updated_by":""}',
    ),
    (
        TOKEN,
        '{"created_at":0,"created_by":"x","expires_at":9,"per_day":20,"per_minute":60,"presets":["welcome"],'
        '"role":"sender","token_sha256":"' + "b" * 64 + '"}',
    ),
]


@pytest.mark.parametrize(("record", "body"), BODIES, ids=lambda value: getattr(value, "kind", ""))
def test_body_never_changes_and_parses_back(record: Record, body: str) -> None:
    assert record.body() == body
    assert parse_record(record.kind, record.row_id, record.id, record.version, body) == record


@pytest.mark.parametrize("record", [INTEGRATION, PRESET, CALLER, TOKEN], ids=lambda record: record.kind)
def test_body_without_a_field_is_refused(record: Record) -> None:
    for key in record.fields():
        fields = {name: value for name, value in record.fields().items() if name != key}
        with pytest.raises(KeyError):
            parse_record(record.kind, record.row_id, record.id, 1, json.dumps(fields))


def test_repr_has_neither_hash_nor_sealed_value() -> None:
    text: Any = repr([INTEGRATION, CALLER, TOKEN])
    assert "1:k1:AA" not in text
    assert "a" * 64 not in text
    assert "b" * 64 not in text


def test_token_is_a_prefix_and_32_random_bytes() -> None:
    """Scanners find the prefix. The store keeps only the SHA-256."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    for token, digest in tokens:
        assert re.fullmatch("sidekey_[A-Za-z0-9_-]{43}", token)
        assert digest == digest_of(token) == hashlib.sha256(token.encode()).hexdigest()


def test_token_that_is_not_utf_8_has_a_digest() -> None:
    """A header may contain any byte."""
    assert digest_of("\udcff") == hashlib.sha256(b"\xff").hexdigest()
