"""Parsing responses of STS in JSON and XML. Errors never repeat their text."""

from __future__ import annotations

import json
import sys
from types import FrameType

import pytest

from sidekey.credentials.aws.sigv4 import AccessKey
from sidekey.credentials.aws.sts import _Leaves, parse_response
from sidekey.credentials.base import CallError
from support.drive_kinds import NOW, reply

CREDENTIALS = {
    "AccessKeyId": "ASIAIOSFODNN7EXAMPLE",
    "SecretAccessKey": "wJalr/XUtnFEMI&K7MDENG",
    "SessionToken": "AQoDYXdzEE0a8ANXXXX+/==",
    "Expiration": NOW + 3600,
}
KEY = AccessKey(b"ASIAIOSFODNN7EXAMPLE", b"wJalr/XUtnFEMI&K7MDENG", b"AQoDYXdzEE0a8ANXXXX+/==")
XML = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>sub</SubjectFromWebIdentityToken>
    <Credentials>
      <SessionToken>AQoDYXdzEE0a8ANXXXX+/==</SessionToken>
      <SecretAccessKey>wJalr/XUtnFEMI&amp;K7MDENG</SecretAccessKey>
      <Expiration>2026-09-21T15:13:20Z</Expiration>
      <AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def response(credentials: dict[str, object]) -> dict[str, object]:
    result = {"Credentials": credentials, "SubjectFromWebIdentityToken": "sub"}
    return {"AssumeRoleWithWebIdentityResponse": {"AssumeRoleWithWebIdentityResult": result}}


def test_access_key_is_read_from_json() -> None:
    assert parse_response(reply(response(CREDENTIALS)), NOW) == (KEY, 3600)


def test_access_key_is_read_from_xml() -> None:
    assert parse_response(reply(XML.encode()), NOW) == (KEY, 3600)


def test_lifetime_counts_from_the_date_of_the_response() -> None:
    headers = {"date": "Mon, 21 Sep 2026 15:03:20 GMT"}
    assert parse_response(reply(response(CREDENTIALS), headers=headers), NOW - 1e6)[1] == 600


def test_lifetime_is_limited_to_that_of_a_session() -> None:
    assert parse_response(reply(response({**CREDENTIALS, "Expiration": 1e12})), NOW)[1] == 43_200


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize("value", [None, "", "a b", "\u00e9", True, ["x"], "canary\n"])
def test_unusable_key_is_an_error(name: str, value: object) -> None:
    with pytest.raises(CallError) as caught:
        parse_response(reply(response({**CREDENTIALS, name: value})), NOW)
    assert caught.value.outcome == "invalid"
    assert "did not return" in caught.value.reason
    assert "canary" not in caught.value.reason


@pytest.mark.parametrize("end", [float("nan"), 10**400])
def test_invalid_expiration_is_an_error(end: float) -> None:
    with pytest.raises(CallError, match="did not return when"):
        parse_response(reply(response({**CREDENTIALS, "Expiration": end})), NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"<a/>",
        b"<Credentials>",
        json.dumps({"AssumeRoleWithWebIdentityResponse": []}).encode(),
        f'<!DOCTYPE a [<!ENTITY e "ASIAIOSFODNN7EXAMPLE">]>{XML.replace("ASIAIOSFODNN7EXAMPLE", "&e;")}'.encode(),
        f'<!DOCTYPE a SYSTEM "file:///etc/passwd">{XML}'.encode(),
        XML.replace("AccessKeyId>", "x:AccessKeyId>").encode(),
    ],
)
def test_other_response_is_an_error(body: bytes) -> None:
    with pytest.raises(CallError) as caught:
        parse_response(reply(body), NOW)
    assert caught.value.outcome == "invalid"


def test_text_of_many_lines_is_parsed_in_few_pieces() -> None:
    """Otherwise joining them takes quadratic time on the event loop."""
    pieces = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal pieces
        pieces += event == "call" and frame.f_code is _Leaves.text.__code__

    sys.setprofile(count)
    try:
        with pytest.raises(CallError):
            parse_response(reply(b"<Error><Message>%b</Message></Error>" % (b"\n" * 20_000)), NOW)
    finally:
        sys.setprofile(None)
    assert 0 < pieces < 20


def error(code: str) -> dict[str, object]:
    return {"Error": {"Type": "Sender", "Code": code, "Message": "canary text"}, "RequestId": "1"}


@pytest.mark.parametrize(
    ("status", "code", "outcome", "reason", "needs_config_change"),
    [
        (400, "ExpiredTokenException", "refused", "AWS STS returned 400 (ExpiredTokenException)", True),
        (403, "AccessDenied", "refused", "AWS STS returned 403 (AccessDenied)", True),
        (400, "InvalidIdentityToken", "refused", "AWS STS returned 400 (InvalidIdentityToken)", True),
        (400, "IDPCommunicationError", "unreachable", "AWS STS returned 400 (IDPCommunicationError)", False),
        (400, "Throttling", "rate_limited", "AWS STS returned 400 (Throttling)", False),
        (400, "Canary", "refused", "AWS STS returned 400", True),
        (503, "Canary", "unreachable", "AWS STS returned 503", False),
        (302, "Canary", "invalid", "AWS STS returned 302", False),
    ],
)
def test_error_repeats_only_its_code(
    status: int, code: str, outcome: str, reason: str, needs_config_change: bool
) -> None:
    xml = f"<ErrorResponse><Error><Code>{code}</Code><Message>canary text</Message></Error></ErrorResponse>"
    for content in (error(code), xml.encode()):
        with pytest.raises(CallError) as caught:
            parse_response(reply(content, status), NOW)
        assert (caught.value.outcome, caught.value.reason, caught.value.needs_config_change) == (
            outcome,
            reason,
            needs_config_change,
        )
