"""The config of the AWS kind."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sidekey.credentials.aws.settings import AwsSigV4Settings
from sidekey.credentials.aws.sigv4 import SigV4Signer
from sidekey.credentials.base import Destinations, FixedCredential
from sidekey.policy.targets import Forbidden
from sidekey.policy.urls import Origin
from support.drive_kinds import settings_of
from support.stored import AWS_SIGV4, assessed, destination

KEYS = {"access_key_id": {"file": "id"}, "secret_access_key": {"file": "key"}}
AUTH: dict[str, Any] = {"type": "aws_sigv4", "region": "eu-west-1", "service": "s3", **KEYS}
IDENTITY = {"role_arn": "arn:aws:iam::1:role/x", "token": {"file": "token"}, "session_name": "sidekey"}
BY_IDENTITY: dict[str, Any] = {**AUTH, "access_key_id": None, "secret_access_key": None, "web_identity": IDENTITY}


def errors(auth: dict[str, Any]) -> dict[tuple[Any, ...], str]:
    with pytest.raises(ValidationError) as caught:
        settings_of({key: value for key, value in auth.items() if value is not None})
    return {error["loc"][1:]: error["msg"].removeprefix("Value error, ") for error in caught.value.errors()}


def sigv4_settings(auth: dict[str, Any]) -> AwsSigV4Settings:
    settings = settings_of({key: value for key, value in auth.items() if value is not None})
    assert isinstance(settings, AwsSigV4Settings)
    return settings


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"region": "eu-west"}, "region", "must be the name of a region"),
        ({"region": "eu-west-1.evil.example"}, "region", "must be the name of a region"),
        ({"region": "EU-WEST-1"}, "region", "must be the name of a region"),
        ({"region": None}, "region", "Field required"),
        ({"service": "S3"}, "service", "must be the signing name"),
        ({"service": "a/b"}, "service", "must be the signing name"),
        ({"service": {"env": "X"}}, "service", "Input should be a valid string"),
        ({"access_key_id": None}, "access_key_id", "Field required"),
        ({"access_key_id": "a/b"}, "access_key_id", "must be an access key ID"),
        ({"secret_access_key": None}, "secret_access_key", "Field required"),
        ({"secret_access_key": "hunter2"}, "secret_access_key", "a secret may not be written inline"),
        ({"secret_access_key": {"insecure_value": "a b"}}, "secret_access_key", "must be visible ASCII"),
        ({"session_token": {"insecure_value": "\u00e9"}}, "session_token", "must be visible ASCII"),
        ({"payload": "maybe"}, "payload", "Input should be 'signed' or 'unsigned'"),
        ({"service": "sqs", "payload": "unsigned"}, "payload", "only S3"),
        ({"sts_endpoint": "https://sts.example.com"}, "sts_endpoint", "may be used only with web_identity"),
        ({"web_identity": IDENTITY}, "access_key_id", "may not be used with web_identity"),
        ({**BY_IDENTITY, "session_token": {"file": "t"}}, "session_token", "may not be used with web_identity"),
        ({**BY_IDENTITY, "sts_endpoint": "http://sts.example.com"}, "sts_endpoint", "must be an https URL"),
        ({**BY_IDENTITY, "sts_endpoint": "https://sts.example.com?a"}, "sts_endpoint", "must not contain a query"),
    ],
)
def test_invalid_access_key_is_an_error(changes: dict[str, Any], place: str, message: str) -> None:
    assert message in errors({**AUTH, **changes})[place,]


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"role_arn": "x"}, "role_arn", "must be the ARN of a role"),
        ({"role_arn": "arn:aws:iam::1:user/x"}, "role_arn", "must be the ARN of a role"),
        ({"session_name": "a b"}, "session_name", "must be 2 to 64"),
        ({"token": "eyJ"}, "token", "write {file: PATH}"),
        ({"token": {"env": "TOKEN"}}, "token", "write {file: PATH}"),
        ({"token": {"insecure_value": "eyJ"}}, "token", "write {file: PATH}"),
        ({"audience": "x"}, "audience", "Extra inputs"),
    ],
)
def test_invalid_web_identity_is_an_error(changes: dict[str, Any], place: str, message: str) -> None:
    assert message in errors({**BY_IDENTITY, "web_identity": {**IDENTITY, **changes}})["web_identity", place]


def test_values_of_references_are_checked() -> None:
    values = {
        "id": "a/b",
        "key": "a b",
        "arn": "x",
        "region": "x",
        "name": "",
        "token": "a b",
        "sts": "http://x",
        "session": "a b",
    }
    by_key = {**AUTH, "region": {"file": "region"}, "session_token": {"file": "session"}}
    identity = {"role_arn": {"file": "arn"}, "session_name": {"file": "name"}, "token": {"file": "token"}}
    by_identity = {**BY_IDENTITY, "sts_endpoint": {"file": "sts"}, "web_identity": identity}
    for auth, places in (
        (by_key, {"region", "access_key_id", "secret_access_key", "session_token"}),
        (by_identity, {"sts_endpoint", "role_arn", "session_name", "token"}),
    ):
        _, reasons = sigv4_settings(auth).read(lambda reference: values.get(reference.value, reference.value), {})
        assert {place[-1] for place, _ in reasons} == places


def test_unsigned_payload_over_http_is_an_error() -> None:
    auth = {**AUTH, "payload": "unsigned"}
    plain = {"endpoint_prefix": ["https://a.example.com", "http://b.example.com"], "auth": auth}
    assert dict(AwsSigV4Settings.find_errors(plain)) == {
        ("auth", "payload"): "must be signed: by http:// nothing else protects the body"
    }
    assert not list(AwsSigV4Settings.find_errors({"endpoint_prefix": "https://a.example.com", "auth": auth}))
    assert not list(AwsSigV4Settings.find_errors({"endpoint_prefix": "http://a.example.com", "auth": AUTH}))


def test_access_key_needs_no_call() -> None:
    settings = sigv4_settings({**AUTH, "session_token": {"file": "token"}})
    values = {("region",): "eu-west-1", ("access_key_id",): "AKIA", ("secret_access_key",): "s"}
    result = settings.credential({**values, ("session_token",): "t0ken"})
    assert isinstance(result, FixedCredential)
    assert isinstance(result.grant.signer, SigV4Signer)
    assert (result.grant.headers, result.grant.secrets) == ((), (b"t0ken",))
    assert settings.destinations({}) == Destinations()
    traits = settings.traits()
    assert not traits.calls
    assert traits.signing is not None
    assert traits.signing.body
    unsigned = sigv4_settings({**AUTH, "payload": "unsigned"}).traits().signing
    assert unsigned is not None
    assert not unsigned.body


def test_endpoint_of_sts_is_a_forbidden_target() -> None:
    settings = sigv4_settings(BY_IDENTITY)
    values = {("region",): "eu-west-1"}
    sts = Origin("https", "sts.eu-west-1.amazonaws.com", 443)
    assert settings.destinations(values) == Destinations(forbidden=(Forbidden(sts, "/", below=True),))
    assert settings.destinations({}) is None
    own = sigv4_settings({**BY_IDENTITY, "sts_endpoint": "https://minio.example.com/sts"})
    result = own.destinations({("sts_endpoint",): "https://minio.example.com/sts"})
    assert result == Destinations(forbidden=(Forbidden(Origin("https", "minio.example.com", 443), "/sts"),))
    assert own.destinations(values) is None


def test_stored_integration_may_not_use_web_identity() -> None:
    """It would read a file of Sidekey's machine."""
    auth = {"type": "aws_sigv4", "region": "eu-west-1", "service": "sqs", "web_identity": IDENTITY}
    (detail,) = [
        item.detail for item in assessed({**AWS_SIGV4, "auth": auth}).errors if item.pointer == "/auth/web_identity"
    ]
    assert "give access_key_id and secret_access_key" in detail


def test_region_and_service_are_destinations_of_stored_secrets() -> None:
    auth = AWS_SIGV4["auth"]
    assert destination(AWS_SIGV4) == {
        "endpoint_prefix": ["https://sqs.eu-west-1.amazonaws.com"],
        "auth": {"type": "aws_sigv4", "region": "eu-west-1", "service": "sqs"},
    }
    assert destination({**AWS_SIGV4, "auth": {**auth, "access_key_id": "AKIB"}}) == destination(AWS_SIGV4)
    for key, value in (("region", "eu-west-2"), ("service", "sns")):
        assert destination({**AWS_SIGV4, "auth": {**auth, key: value}}) != destination(AWS_SIGV4)
