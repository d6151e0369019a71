"""What the client certificate in a document is, before that is saved."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sidekey.settings.stored.certificates import Material, material_of
from support.certificates import NOW, issue
from support.stored import BASIC, PRESENT, chain, copied, errors, former, mtls, stored

KEPT = {"set": True}


def seen(document: Any) -> Material:
    return material_of(document, None, PRESENT)


def test_it_is_told_whatever_else_is_missing() -> None:
    """No prefix, no key: who has just chosen a file wants to know."""
    auth = copied(mtls())["auth"]
    del auth["private_key"]
    found = seen({"auth": auth}).certificate
    assert found is not None
    assert (found.pointer, found.subject, found.chain) == ("/auth/certificate", "CN=client.example", 1)
    assert (found.not_before, found.not_after) == (NOW - timedelta(days=1), NOW + timedelta(days=89))
    assert (found.days_left, found.belongs) == (89, None)


def test_what_is_wrong_is_what_saving_says() -> None:
    """By the same pointers, in the same words; a key alone is looked at as well."""
    other = issue("other.example", start=NOW)
    for change in (
        {"private_key": {"value": other.key_pem.decode()}},
        {"allow_private_ca": False},
        {"private_key": {"value": other.key_as(passphrase="x").decode()}},
        {"private_key": {"value": chain().pem.decode()}},
        {"certificate": {"inline": "-----BEGIN CERTIFICATE-----\nx"}},
    ):
        document = {**mtls(), "auth": {**mtls()["auth"], **change}}
        assert {each.pointer: each.detail for each in seen(document).errors} == errors(document)
    alone = {"auth": {"type": "mtls", "private_key": {"value": other.key_as(passphrase="x").decode()}}}
    assert [each.pointer for each in seen(alone).errors] == ["/auth/private_key"]


def test_a_certificate_beside_any_credential_is_told_at_its_block() -> None:
    pem = {"value": (chain().pem + chain().leaf.key_pem).decode()}
    found = seen({**BASIC, "client_certificate": {"pem": pem, "allow_private_ca": True}})
    assert found.certificate is not None
    assert (found.certificate.pointer, found.certificate.belongs) == ("/client_certificate/pem", True)
    assert found.errors == ()


def test_what_is_kept_is_told_as_far_as_it_is_public() -> None:
    """A kept key is not opened for it, nor one whose passphrase is kept looked at."""
    before = former(stored(mtls()))
    document = {**mtls(), "auth": {**mtls()["auth"], "certificate": KEPT, "private_key": KEPT}}
    found = material_of(document, before, PRESENT).certificate
    assert found is not None
    assert (found.subject, found.belongs) == ("CN=client.example", None)
    encrypted = {"value": chain().leaf.key_as(passphrase="x").decode()}
    document = {**mtls(), "auth": {**mtls()["auth"], "private_key": encrypted, "key_passphrase": KEPT}}
    found = material_of(document, before, PRESENT).certificate
    assert found is not None
    assert found.belongs is None


@pytest.mark.parametrize(
    "document",
    [
        {},
        BASIC,
        {"auth": 5},
        {"auth": {"type": ["mtls"]}},
        {"auth": {"type": "mtls", "certificate": "x", "private_key": {"url": "https://a.example/key"}}},
        {"auth": {"type": "mtls", "certificate": {"file": "x"}, "private_key": {"value": 5}}},
        {"client_certificate": {"pem": KEPT, "key_passphrase": []}},
        {"auth": {"type": "mtls", "certificate": {"inline": "\ud800"}}},
    ],
)
def test_of_what_is_no_certificate_nothing_is_told(document: Any) -> None:
    """What is wrong with it, the models say."""
    assert seen(document) == Material()
