"""The source of a copy in S3 must be a target that the policy allows."""

from __future__ import annotations

import pytest

from sidekey.credentials.aws.copy_source import check_copy
from sidekey.errors import Problem
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy, parse_prefix
from sidekey.policy.urls import parse_origin


def refusal(prefix: str, *fields: str, host: str = "") -> str | None:
    problem = problem_of(prefix, *fields, host=host)
    return None if problem is None else problem.code


def problem_of(prefix: str, *fields: str, host: str = "") -> Problem | None:
    policy = Policy(prefixes=(parse_prefix(prefix),))
    origin = policy.prefixes[0].origin if not host else parse_origin("https", host)
    lines = [b"\r\n" + field.encode("latin-1") for field in fields]
    names = [field.partition(":")[0].lower().replace("_", "-").encode() for field in fields]
    return check_copy(RequestHead(b"PUT", b"/", None, lines, names), origin, policy)


def source(prefix: str, value: str) -> str | None:
    return refusal(prefix, f"x-amz-copy-source: {value}")


IN_PATH = "https://s3.eu-west-1.amazonaws.com/mine"
IN_HOST = "https://mine.s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("value", ["/mine/key", "mine/key", "/mine/a%20b?versionId=1", "mine%2Fkey", "/mine/a..b/.c"])
@pytest.mark.parametrize(
    "prefix",
    [
        IN_PATH,
        IN_HOST,
        "https://mine.s3.amazonaws.com",
        "https://mine.s3.dualstack.eu-west-1.amazonaws.com",
        "https://s3.cn-north-1.amazonaws.com.cn/mine",
        "https://s3-fips.us-gov-west-1.amazonaws.com/mine",
        "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com/mine",
        "https://s3.example.com/mine",
        "https://minio.example.com:9000/mine",
        "https://mine.storage.example.com",
        "http://localhost:5000/mine",
        "http://127.0.0.1:5000/mine",
        "http://[::1]:5000/mine",
    ],
)
def test_source_inside_the_policy_is_allowed(prefix: str, value: str) -> None:
    assert source(prefix, value) is None


@pytest.mark.parametrize(
    ("prefix", "value"),
    [
        (IN_PATH, "/other/key"),
        (IN_PATH, "/mine2/key"),
        (IN_PATH, "/Mine/key"),
        (IN_PATH + "/in", "/mine/key"),
        (IN_PATH + "/a%2Bb", "/mine/a+b/c"),
        (IN_PATH + "/a%20b", "/mine/a+b/c"),
        (IN_HOST, "/other/key"),
        (IN_HOST, "/MINE/key"),
        (IN_HOST, "/mi/ne/key"),
        (IN_HOST + "/in", "/mine/out"),
        # Root prefixes: any path is inside, and another bucket is not.
        ("https://my.bucket.s3.amazonaws.com", "/my/key"),
        ("https://s3-fips.s3.amazonaws.com", "/other/key"),
        ("https://alias-123.s3-accesspoint.eu-west-1.amazonaws.com", "/alias-123/key"),
        ("https://mine.storage.example.com", "/other/key"),
        ("https://minio.example.com", "/mine/key"),
    ],
)
def test_source_outside_the_policy_is_refused(prefix: str, value: str) -> None:
    assert source(prefix, value) == "target_denied"


@pytest.mark.parametrize("prefix", [IN_PATH, IN_HOST, "https://mine.storage.example.com"])
def test_prefix_may_be_the_object_itself(prefix: str) -> None:
    assert source(f"{prefix}/key", "/mine/key") is None
    assert source(f"{prefix}/key", "/mine/keys") == "target_denied"


def test_bucket_with_dots_in_the_host_is_allowed() -> None:
    assert source("https://my.bucket.s3.amazonaws.com", "/my.bucket/key") is None


def test_root_prefix_with_the_bucket_in_the_path_allows_every_source() -> None:
    assert source("https://s3.eu-west-1.amazonaws.com", "/any/key") is None
    assert source("http://127.0.0.1:5000", "/any/key") is None


@pytest.mark.parametrize(
    "value",
    [
        "arn:aws:s3:eu-west-1:1:accesspoint/a/object/key",
        "/arn:aws:s3:::mine/key",
        "ARN%3Aaws:s3:eu-west-1:1:accesspoint/a/object/key",
        "%61rn:aws:s3:::mine/key",
    ],
)
def test_copy_source_may_not_be_an_arn(value: str) -> None:
    assert source(IN_PATH, value) == "target_denied"


@pytest.mark.parametrize(
    "value",
    [
        *("", "/", "mine", "/mine", "/mine/", "//mine/key", "/mine/a b", "/mine/%zz", "/mine/%00"),
        *("/mine/../other/key", "/mine/%2e%2e/other/key", "/mine/..%2fother/key", "/mine/%252e%252e/other"),
    ],
)
def test_malformed_source_is_refused(value: str) -> None:
    assert source(IN_PATH, value) == "request_invalid"


def test_field_name_is_normalised() -> None:
    assert refusal(IN_PATH, "X_Amz_Copy_Source: /other/key") == "target_denied"
    assert refusal(IN_PATH, "x-amz-copy-source: /mine/a", "X-Amz-Copy-Source: /mine/b") == "request_invalid"


def test_bucket_named_like_an_endpoint_is_in_the_host() -> None:
    prefix = "http://s3.example.com.s3.eu-west-1.amazonaws.com"
    assert source(prefix, "/s3.example.com/key") is None
    assert source(prefix, "/other/key") == "target_denied"


@pytest.mark.parametrize("name", ["X-Goog-Copy-Source", "x-oss-copy-source", "x_cos_copy_source"])
def test_source_field_of_another_vendor_is_refused(name: str) -> None:
    """The policy does not check it, and a server may read it."""
    assert refusal(IN_PATH, f"{name}: /mine/key") == "target_denied"
    assert refusal(IN_PATH, "x-amz-copy-source: /mine/key", f"{name}: /other/key") == "target_denied"


def test_rename_is_refused() -> None:
    assert refusal(IN_PATH, "x-amz-rename-source: /mine/key") == "target_denied"
    assert refusal(IN_PATH, "x-amz-meta-a: 1", "x-amz-copy-source-if-match: x") is None


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        (["x-amz-copy-source: /other/key"], "the source of the copy is outside the integration's policy"),
        (
            ["x-amz-copy-source: arn:aws:s3:::mine/key"],
            "the source of a copy must be /bucket/key: an access point's ARN does not tell the bucket",
        ),
        (["x-amz-rename-source: /mine/key"], "X-Amz-Rename-Source is not supported: its source cannot be judged"),
        (
            ["x-goog-copy-source: /mine/key"],
            "the source of a copy must be in X-Amz-Copy-Source, where it is judged",
        ),
        (2 * ["x-amz-copy-source: /mine/key"], "X-Amz-Copy-Source must not be repeated"),
        (["x-amz-copy-source: mine"], "X-Amz-Copy-Source must be /bucket/key, percent-encoded"),
    ],
)
def test_refusal_names_the_valid_form(fields: list[str], detail: str) -> None:
    problem = problem_of(IN_PATH, *fields)
    assert problem is not None
    assert (problem.detail, problem.denial) == (detail, "copy_source")
