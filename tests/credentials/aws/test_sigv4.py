"""AWS Signature Version 4: AWS's test suite, random requests compared with botocore, and redaction."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.aws.sigv4 import (
    AccessKey,
    CredentialScope,
    SigV4Rules,
    SigV4Signer,
    add_field,
    canonical_path,
    canonical_query,
    canonical_request,
    derive_key,
    format_time,
    string_to_sign,
)
from sidekey.credentials.signing import OutgoingRequest, RandomIds
from sidekey.policy.canonical import CanonicalForm, canonical_form
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy
from sidekey.policy.urls import Origin, Target
from support.cases import rows

UNIQUE = RandomIds(b"m" * 16, b"n" * 16)
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
KEY = AccessKey(b"AKIDEXAMPLE", b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOKEN = b"6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
AWS = Origin("https", "example.amazonaws.com", 443)
HTTP = Origin("http", "example.amazonaws.com", 80)
SUITE = rows("aws_sigv4")


def suite_request(row: dict[str, Any]) -> tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    head, _, body = row["request"].partition("\n\n")
    first, *lines = head.encode("latin-1").split(b"\n")
    method, _, rest = first.partition(b" ")
    path, _, query = rest.rpartition(b" ")[0].partition(b"?")
    fields = [(name.lower(), value) for name, _, value in (line.partition(b":") for line in lines if line)]
    if row["name"] == "get-vanilla-with-session-token":
        fields.append((b"x-amz-security-token", TOKEN))
    return method, path, query, fields, body.encode("latin-1")


@pytest.mark.parametrize("row", SUITE, ids=[row["name"] for row in SUITE])
def test_aws_test_suite(row: dict[str, Any]) -> None:
    method, path, query, fields, body = suite_request(row)
    spelled = CanonicalForm("x-amz-").canonicalize(Target(AWS, "/", query.decode("latin-1"))).query or ""
    joined: dict[bytes, bytes] = {}
    for name, value in fields:
        add_field(joined, name, value)
    text, signed = canonical_request(
        method,
        canonical_path(path, s3=False),
        canonical_query(spelled.encode()),
        joined,
        sha256(body).hexdigest().encode(),
    )
    assert text.decode("latin-1") == row["canonical_request"]
    scope = b"20150830/us-east-1/service/aws4_request"
    assert string_to_sign(format_time(NOW), scope, text).decode() == row["string_to_sign"]
    assert f"SignedHeaders={signed.decode()}, " in row["authorization"]


def has_signable_form(row: dict[str, Any]) -> bool:
    """Return True if the request has only fields that Sidekey signs, and a canonical path."""
    _, path, _, fields, _ = suite_request(row)
    return canonical_form(path.decode("latin-1")).encode() == path and not any(name[:3] == b"my-" for name, _ in fields)


SENT = [row for row in SUITE if has_signable_form(row)]


@pytest.mark.parametrize("row", SENT, ids=[row["name"] for row in SENT])
def test_aws_test_suite_with_the_signer(row: dict[str, Any]) -> None:
    method, path, query, fields, body = suite_request(row)
    token = dict(fields).get(b"x-amz-security-token")
    signer = SigV4Signer(KEY._replace(token=token), CredentialScope("us-east-1", "service"), sign_payload=True)
    spelled = CanonicalForm("x-amz-").canonicalize(Target(AWS, path.decode(), query.decode("latin-1") or None))
    lines = [b"\r\n%b: %b" % field for field in fields if field[0] not in (b"x-amz-date", b"x-amz-security-token")]
    request = OutgoingRequest(method, b"https", b"example.amazonaws.com", spelled.request_target.encode(), lines)
    result = signer.sign(request, [body] if body else [], NOW, UNIQUE)
    assert result[:2] == [
        f"\r\nAuthorization: {row['authorization']}".encode(),
        b"\r\nX-Amz-Date: 20150830T123600Z",
    ]
    assert result[2:] == ([] if token is None else [b"\r\nX-Amz-Security-Token: " + token])


PATHS = st.lists(
    st.text("abcXYZ019-_.~ @+:;=&%$!*'(),|/\xe9\xff", max_size=8).map(
        lambda text: text.encode().decode("latin-1").replace("%", "%25").replace("/", "%2F")
    ),
    max_size=5,
)
PARTS = st.lists(
    st.tuples(st.text("abAB01-_.~ +%=@/\xfc", min_size=1, max_size=6), st.text("abAB01-_.~ +%=@/&", max_size=6)),
    max_size=5,
)
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["Content-Type", "X-Amz-Meta-A", "x-amz-meta-b", "X-AMZ-Target", "x-amz-acl"]),
        st.text("abc 019/;=\t", max_size=12),
    ),
    max_size=6,
)


def percent(text: str, also: str = "") -> str:
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~" + also
    return "".join(c if c in plain else "".join(f"%{b:02x}" for b in c.encode()) for c in text)


@given(
    service=st.sampled_from(["s3", "sqs", "dynamodb", "execute-api", "bedrock"]),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD"]),
    secure=st.booleans(),
    path=PATHS,
    parts=PARTS,
    fields=FIELDS,
    body=st.lists(st.binary(max_size=40), max_size=4),
    token=st.none() | st.text("abcXYZ019/+=", min_size=1, max_size=20),
    now=st.integers(0, 4_000_000_000),
)
def test_random_requests_are_signed_like_botocore(
    service: str,
    method: str,
    secure: bool,
    path: list[str],
    parts: list[tuple[str, str]],
    fields: list[tuple[str, str]],
    body: list[bytes],
    token: str | None,
    now: int,
) -> None:
    query = "&".join(f"{percent(name, '@/')}={percent(value, '=')}" for name, value in parts) if parts else None
    origin = Origin("https" if secure else "http", "bucket.example.com", 8443)
    target = CanonicalForm("x-amz-").canonicalize(Target(origin, "/" + "/".join(path).replace(" ", "%20"), query))
    request = AWSRequest(method, f"{target.origin}{target.request_target}", data=b"".join(body))
    for name, value in fields:
        request.headers[name] = value
    credentials = Credentials(KEY.identity.decode(), KEY.secret.decode(), token)
    auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, "eu-west-1")
    with patch("botocore.auth.get_current_datetime", return_value=datetime.fromtimestamp(now, UTC)):
        auth.add_auth(request)
    key = KEY._replace(token=None if token is None else token.encode())
    signer = SigV4Signer(key, CredentialScope("eu-west-1", service), sign_payload=True)
    lines = [f"\r\n{name}: {value}".encode() for name, value in fields]
    lines += [b"\r\nUser-Agent: x", b"\r\nCache-Control: no-store", b"\r\nX-Forwarded-For: 1"]
    outgoing = OutgoingRequest(
        method.encode(),
        origin.scheme.encode(),
        origin.authority.encode(),
        target.request_target.encode("latin-1"),
        lines,
    )
    result = dict(line[2:].decode().split(": ", 1) for line in signer.sign(outgoing, body, now + 0.7, UNIQUE))
    names_of_caller = {name.lower() for name, _ in fields}
    expected = {name.title(): value for name, value in request.headers.items() if name.lower() not in names_of_caller}
    assert {name.title(): value for name, value in result.items()} == expected


def head(*fields: bytes, method: bytes = b"PUT") -> RequestHead:
    lines = [b"\r\n" + field for field in fields]
    names = [field.partition(b":")[0].lower().replace(b"_", b"-") for field in fields]
    return RequestHead(method, b"/", b"h", lines, names)


def outgoing(*lines: bytes, received: RequestHead | None = None, target: bytes = b"/key") -> OutgoingRequest:
    return OutgoingRequest(b"PUT", b"https", b"b.s3.amazonaws.com", target, lines, received)


TRAILER = b"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def test_payload_with_an_unsigned_trailer_is_signed_by_name() -> None:
    received = head(TRAILER, b"x-amz-trailer: x-amz-checksum-crc32")
    for payload in (True, False):
        rules = SigV4Rules("s3", sign_payload=payload)
        assert not rules.needs_body(received)
        assert rules.refusal(received, AWS, Policy()) is None
        signer = SigV4Signer(KEY, CredentialScope("eu-west-1", "s3"), sign_payload=payload)
        result = signer.sign(outgoing(received=received), (), NOW, UNIQUE)
        assert b"\r\nX-Amz-Content-Sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER" in result


def test_unsigned_payload_needs_no_body() -> None:
    assert not SigV4Rules("s3", sign_payload=False).needs_body(head())
    assert SigV4Rules("s3", sign_payload=True).needs_body(head(b"x-amz-content-sha256: UNSIGNED-PAYLOAD"))
    signer = SigV4Signer(KEY, CredentialScope("eu-west-1", "s3"), sign_payload=False)
    result = signer.sign(outgoing(received=head()), (), NOW, UNIQUE)
    assert b"\r\nX-Amz-Content-Sha256: UNSIGNED-PAYLOAD" in result


def test_unsigned_payload_requires_https() -> None:
    problem = SigV4Rules("s3", sign_payload=False).refusal(head(), HTTP, Policy())
    assert problem is not None
    assert problem.code == "body_unsupported"
    assert SigV4Rules("s3", sign_payload=False).refusal(head(), AWS, Policy()) is None


UNSIGNED_TRAILER = (
    "a payload with an unsigned trailer may be sent to S3 by https alone: set request_checksum_calculation to "
    "when_required in the SDK (AWS_REQUEST_CHECKSUM_CALCULATION=when_required)"
)
SIGNED_CHUNKS = (
    "each chunk of the payload is signed with the caller's own key: turn that off in the SDK "
    "(AWS_REQUEST_CHECKSUM_CALCULATION=when_required; chunkedEncodingEnabled(false) in Java, UseChunkEncoding = false "
    "in .NET), or send by https"
)
REPEATED = "X-Amz-Content-Sha256 must not be repeated"


@pytest.mark.parametrize(
    ("service", "origin", "fields", "status", "detail"),
    [
        ("sqs", AWS, [TRAILER], 415, UNSIGNED_TRAILER),
        ("s3", HTTP, [TRAILER], 415, UNSIGNED_TRAILER),
        ("s3", AWS, [b"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD"], 415, SIGNED_CHUNKS),
        ("s3", AWS, [b"X_Amz-Content-Sha256: streaming-aws4-x"], 415, SIGNED_CHUNKS),
        ("sqs", AWS, [b"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-EVENTS"], 415, SIGNED_CHUNKS),
        ("s3", AWS, [TRAILER, b"x-amz-content-sha256: e3b0"], 400, REPEATED),
        ("s3", AWS, [TRAILER, TRAILER], 400, REPEATED),
    ],
)
def test_payload_that_cannot_be_signed_is_refused(
    service: str, origin: Origin, fields: list[bytes], status: int, detail: str
) -> None:
    problem = SigV4Rules(service, sign_payload=True).refusal(head(*fields), origin, Policy())
    assert problem is not None
    assert (problem.status, problem.detail) == (status, detail)


@pytest.mark.parametrize("service", ["s3", "s3express", "storage", "execute-api"])
def test_copy_source_is_checked_for_every_service(service: str) -> None:
    copy = head(b"x-amz-copy-source: /other/key")
    problem = SigV4Rules(service, sign_payload=True).refusal(copy, AWS, Policy())
    assert problem is not None
    assert problem.code == "target_denied"


def test_rules_list_signed_and_written_fields() -> None:
    rules = SigV4Rules("sqs", sign_payload=True)
    assert {b"authorization", b"x-amz-date", b"x-amz-security-token", b"x-amz-content-sha256", b"date"} == rules.names
    assert [rules.signs(name) for name in (b"host", b"content-type", b"x-amz-meta-a", b"x-amz")] == [
        True,
        True,
        True,
        False,
    ]


def test_rules_of_services_with_the_same_behaviour_are_equal() -> None:
    assert SigV4Rules("sqs", sign_payload=True) == SigV4Rules("sns", sign_payload=True)
    others = (SigV4Rules("s3", sign_payload=True), SigV4Rules("s3", sign_payload=False))
    assert len({SigV4Rules("sqs", sign_payload=True), *others}) == 3


@pytest.mark.parametrize("service", ["s3", "sqs"])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_names_equal_those_of_the_written_headers(service: str, token: bytes | None) -> None:
    """A second signer needs them."""
    signer = SigV4Signer(KEY._replace(token=token), CredentialScope("us-east-1", service), sign_payload=True)
    lines = signer.sign(outgoing(), [], NOW, UNIQUE)
    assert signer.names(outgoing()) == [line[2 : line.index(b":")].lower() for line in lines]


def test_key_is_derived_each_day() -> None:
    signer = SigV4Signer(KEY, CredentialScope("us-east-1", "iam"), sign_payload=True)
    request = outgoing(b"\r\nHost: b.s3.amazonaws.com")
    first, same, next_day = (signer.sign(request, (), NOW + seconds, UNIQUE)[0] for seconds in (0, 0.9, 86_400))
    assert first == same != next_day
    assert b"Credential=AKIDEXAMPLE/20150831/us-east-1/iam/aws4_request" in next_day
    assert signer.sign(request, (), NOW, UNIQUE)[0] == first


def test_signing_key_of_the_documentation() -> None:
    text = b"AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n"
    text += b"f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
    key = derive_key(KEY.secret, b"20150830", b"us-east-1", b"iam")
    assert key.sign([text]).hex() == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"


def test_query_is_sorted_by_name_then_value() -> None:
    assert canonical_query(b"a=2&a-b=1&a=1&b&A=3") == b"A=3&a=1&a=2&a-b=1&b="
    assert canonical_query(b"uploads") == b"uploads="
    assert canonical_query(b"") == b""


def test_path_is_signed_as_sent_for_s3_and_normalised_for_others() -> None:
    path = b"/a//b/./c%20d/../e%2Ff/"
    assert canonical_path(path, s3=True) == path
    assert canonical_path(path, s3=False) == b"/a/b/e%252Ff/"
    assert canonical_path(b"/", s3=False) == b"/"
    assert canonical_path(b"/../..", s3=False) == b"/"


def test_explain_shows_the_signed_text_without_secrets() -> None:
    signer = SigV4Signer(KEY, CredentialScope("us-east-1", "sqs"), sign_payload=True)
    request = outgoing(b"\r\nContent-Type: a/b")
    text, signed = signer.explain(request, [b"x", b"y"], NOW, UNIQUE)
    assert text == (
        b"PUT\n/key\n\ncontent-type:a/b\nhost:b.s3.amazonaws.com\nx-amz-date:20150830T123600Z\n\n"
        b"content-type;host;x-amz-date\n" + sha256(b"xy").hexdigest().encode()
    )
    assert signed == (
        b"AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/sqs/aws4_request\n" + sha256(text).hexdigest().encode()
    )
    secret = SigV4Signer(KEY._replace(token=TOKEN), CredentialScope("us-east-1", "s3"), sign_payload=True)
    text, signed = secret.explain(request, None, NOW, UNIQUE)
    assert b"\nx-amz-security-token:[redacted]\n" in text
    assert text.endswith(b"\n[redacted]")
    assert signed.endswith(b"aws4_request\n[redacted]")
    assert TOKEN not in text
