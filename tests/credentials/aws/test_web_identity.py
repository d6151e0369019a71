"""Access keys by web identity: one call, and a signer that expires with its key."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from sidekey.credentials.aws.settings import AwsSigV4Settings
from sidekey.credentials.aws.sts import WebIdentityCredential
from sidekey.credentials.base import CallingCredential, Verdict
from sidekey.credentials.signing import OutgoingRequest, RandomIds
from support.drive_kinds import NOW, issue, reply, settings_of

AUTH: dict[str, Any] = {
    "type": "aws_sigv4",
    "region": "eu-west-1",
    "service": "sqs",
    "web_identity": {"role_arn": "arn:aws:iam::123456789012:role/x", "token": {"file": "token"}},
}
VALUES = {
    ("region",): "eu-west-1",
    ("web_identity", "role_arn"): "arn:aws:iam::123456789012:role/x",
    ("web_identity", "session_name"): "sidekey",
    ("web_identity", "token"): "canary-token",
}
CREDENTIALS = {"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "s", "SessionToken": "t0ken", "Expiration": NOW + 900}
RESPONSE = {"AssumeRoleWithWebIdentityResponse": {"AssumeRoleWithWebIdentityResult": {"Credentials": CREDENTIALS}}}


def credential(changes: dict[str, Any] | None = None, **values: str) -> CallingCredential:
    settings = settings_of({**AUTH, **(changes or {})})
    assert isinstance(settings, AwsSigV4Settings)
    result = settings.credential({**VALUES, **{(key,): value for key, value in values.items()}})
    assert isinstance(result, WebIdentityCredential)
    return result


def test_one_call_obtains_a_signing_key() -> None:
    issued, calls = issue(credential(), reply(RESPONSE))
    (call,) = calls
    assert (call.step, call.method, call.url) == ("AWS STS", "POST", "https://sts.eu-west-1.amazonaws.com/")
    assert parse_qs(call.body.decode()) == {
        "Action": ["AssumeRoleWithWebIdentity"],
        "Version": ["2011-06-15"],
        "RoleArn": ["arn:aws:iam::123456789012:role/x"],
        "RoleSessionName": ["sidekey"],
        "WebIdentityToken": ["canary-token"],
    }
    assert ("Accept", "application/json") in call.headers
    assert issued.lifetime == 900
    assert issued.grant.secrets == (b"t0ken",)
    signer = issued.grant.signer
    assert signer is not None
    request = OutgoingRequest(b"GET", b"https", b"h", b"/", [])
    lines = signer.sign(request, (), NOW, RandomIds(b"", b""))
    assert lines[0].startswith(b"\r\nAuthorization: AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20260921/eu-west-1/sqs/")
    assert lines[-1] == b"\r\nX-Amz-Security-Token: t0ken"


def test_endpoint_of_sts_is_that_of_the_region_or_the_config() -> None:
    def url(result: CallingCredential) -> str:
        return issue(result, reply(RESPONSE))[1][0].url

    assert url(credential(region="cn-north-1")) == "https://sts.cn-north-1.amazonaws.com.cn/"
    own = {"sts_endpoint": "https://sts.example.com/x"}
    assert url(credential(own, sts_endpoint="https://sts.example.com/x")) == "https://sts.example.com/x"


def test_new_token_of_the_same_file_keeps_the_key() -> None:
    """As the kubelet replaces it every hour. Another file may be another identity, as another secret is."""
    first = credential().lineage
    after = settings_of(AUTH).credential({**VALUES, ("web_identity", "token"): "another"})
    assert isinstance(after, WebIdentityCredential)
    assert after.lineage == first
    identity = {**AUTH["web_identity"], "token": {"file": "other"}}
    moved = credential({"web_identity": identity}).lineage
    assert (moved.client, moved.token) == (first.client, first.token)
    assert moved.proof != first.proof
    other = credential({"service": "sns"}).lineage
    assert other.client == first.client
    assert other.token != first.token


def test_every_response_of_the_upstream_has_a_good_verdict() -> None:
    assert credential().verdict(403, b"ExpiredToken") is Verdict.GOOD
