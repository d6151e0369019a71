"""Signatures as a credential of their own, and as a supplement of another credential."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidekey.config.validate import validate
from sidekey.credentials.base import FixedCredential, Grant, InjectionPoints
from sidekey.credentials.context import Context
from sidekey.credentials.fields import Keys
from sidekey.credentials.signature import SignatureSettings
from sidekey.credentials.signatures.settings import SignatureSectionSettings
from sidekey.credentials.signing import Signer
from support.outgoing_requests import NOW, UNIQUE, outgoing
from support.stored import CANARY, SIGNATURE, SIGNED, destination, harmless, ids, open_secrets, stored

SECRET = {"insecure_value": "hunter2"}
PREFIX = {"endpoint_prefix": "https://api.example.com/v1"}
CUSTOM: dict[str, Any] = {
    "scheme": "custom",
    "secret": SECRET,
    "signed": "{body}",
    "headers": {"X-Signature": "{signature}", "X-Id": "{id}"},
}


def errors(document: dict[str, Any]) -> dict[tuple[Any, ...], str]:
    return {error.loc: error.message for error in validate({**PREFIX, **document}, Context("file")).errors}


def signed(signer: Signer | None) -> list[bytes]:
    assert signer is not None
    return signer.sign(outgoing(), [b"body"], NOW, UNIQUE)


def test_credential_and_supplement_sign_alike() -> None:
    kind = SignatureSettings.model_validate({"type": "signature", **CUSTOM}, context=Context("file"))
    beside = SignatureSectionSettings.model_validate(CUSTOM, context=Context("file"))
    assert {*SignatureSettings.model_fields} == {*SignatureSectionSettings.model_fields, "type"}
    values: dict[Keys, str] = {("secret",): "hunter2"}
    credential, supplement = kind.credential(values), beside.supplement(values)
    assert isinstance(credential, FixedCredential)
    assert credential.grant == Grant(signer=credential.grant.signer)
    assert supplement == Grant(signer=supplement.signer)
    assert signed(credential.grant.signer) == signed(supplement.signer)
    assert kind.traits().injection_points == beside.injection_points() == InjectionPoints()
    assert kind.traits().signing == beside.signing()


def test_kind_requires_a_prefix() -> None:
    auth = {"type": "signature", **CUSTOM}
    assert errors({"auth": auth}) == {}
    result = validate({"auth": auth}, Context("file")).errors
    assert [error.loc for error in result] == [("endpoint_prefix",)]


BASIC = {"auth": {"type": "basic", "username": "svc", "password": SECRET}}


@pytest.mark.parametrize(
    ("document", "place", "reason"),
    [
        (
            {**BASIC, "signature": {**CUSTOM, "headers": {"authorization": "{signature}"}}},
            ("signature", "headers", "authorization"),
            "this signature writes authorization, which auth writes as well: remove one",
        ),
        (
            {**BASIC, "add": {"headers": {"X_Signature": "a"}}, "signature": CUSTOM},
            ("signature", "headers", "X-Signature"),
            "this signature writes x-signature, which add writes as well: remove one",
        ),
        (
            {**BASIC, "add": {"headers": {"X-ID": "a"}}, "signature": CUSTOM},
            ("signature", "headers", "X-Id"),
            "this signature writes x-id, which add writes as well: remove one",
        ),
        (
            {
                "auth": {"type": "signature", "scheme": "github", "secret": SECRET},
                "signature": {**CUSTOM, "headers": {"x-hub-signature-256": "{signature}"}},
            },
            ("signature", "headers", "x-hub-signature-256"),
            "this signature writes x-hub-signature-256, which belongs to the signature that auth makes",
        ),
        (
            {
                "auth": {"type": "signature", **CUSTOM, "signed": "{header:X-Other}{body}"},
                "signature": {**CUSTOM, "headers": {"X-Other": "{signature}"}},
            },
            ("signature", "headers", "X-Other"),
            "this signature writes x-other, which belongs to the signature that auth makes",
        ),
        (
            {
                "endpoint_prefix": "https://sqs.eu-west-1.amazonaws.com",
                "auth": {
                    "type": "aws_sigv4",
                    "region": "eu-west-1",
                    "service": "sqs",
                    "access_key_id": "AKIAEXAMPLE",
                    "secret_access_key": SECRET,
                },
                "signature": {**CUSTOM, "headers": {"X-Amz-Signature": "{signature}"}},
            },
            ("signature", "headers", "X-Amz-Signature"),
            "this signature writes x-amz-signature, which belongs to the signature that auth makes",
        ),
        (
            {"auth": {"type": "signature", **CUSTOM}, "add": {"headers": {"X-Signature": "a"}}},
            ("add", "headers", "X-Signature"),
            "X-Signature belongs to the signature that auth makes: remove it",
        ),
    ],
)
def test_header_of_another_part_is_refused(document: dict[str, Any], place: Keys, reason: str) -> None:
    """A header that an earlier signature covers is refused too."""
    assert errors(document)[place] == reason


def test_conflict_of_a_platforms_header_names_the_scheme() -> None:
    document = {**BASIC, "add": {"headers": {"Webhook-Id": "a"}}}
    signature = {"scheme": "standard-webhooks", "secret": SECRET}
    assert errors({**document, "signature": signature}) == {
        ("signature", "scheme"): "this signature writes webhook-id, which add writes as well: remove one",
    }


def test_injected_header_may_be_signed() -> None:
    """Of `add` or of the credential."""
    signature = {**CUSTOM, "signed": "{header:Authorization}{header:X-Tenant}{body}"}
    assert errors({**BASIC, "add": {"headers": {"X-Tenant": "acme"}}, "signature": signature}) == {}


def test_findings_of_the_supplement_have_its_location() -> None:
    result = errors({**BASIC, "signature": {**CUSTOM, "secret": [SECRET, SECRET], "signed": "{nonce}"}})
    assert {*result} == {("signature", "secret"), ("signature", "signed")}
    warned = validate({**PREFIX, **BASIC, "signature": {**CUSTOM, "signed": "{target}"}}, Context("file")).warnings
    assert ("signature", "signed") in [error.loc for error in warned]
    assert ("signature", "secret", "insecure_value") in [error.loc for error in warned]


def test_scheme_and_components_are_no_destination_of_stored_secrets() -> None:
    public = {*SignatureSectionSettings.model_fields} - {"secret", "key"}
    assert harmless(SignatureSettings) == harmless(SignatureSectionSettings) == public
    assert destination(SIGNATURE) == {"endpoint_prefix": ["https://api.example.com/v1"], "auth": {"type": "signature"}}
    without = {key: value for key, value in SIGNED.items() if key != "signature"}
    assert destination(SIGNED) == destination(without)


def test_stored_secret_is_kept_when_its_position_and_scheme_change() -> None:
    row = stored(SIGNATURE)
    document = json.loads(row.document)["integration"]
    document["auth"] |= {"scheme": "convoy", "secret": [{"value": "newest"}, *reversed(document["auth"]["secret"])]}
    result = stored(document, before=row)
    values = open_secrets(result).values
    assert [*values.values()] == ["newest", CANARY, f"{CANARY}-new"]
    assert [*ids(result).values()][1:] == [*reversed(ids(row).values())]
