"""Check the source of a copy in S3: a second object that a request names, in `x-amz-copy-source`.

The signing key may read more than the policy allows, so the policy decides about the source as about a target: with
the bucket in the path, or as the first label of the host.
"""

from __future__ import annotations

import re
from typing import Final

from sidekey.errors import Problem
from sidekey.policy.addresses import parse_address
from sidekey.policy.canonical import encode_path
from sidekey.policy.decoding import decode
from sidekey.policy.headers import line_values
from sidekey.policy.messages import RequestHead
from sidekey.policy.paths import UnreadablePath
from sidekey.policy.targets import Policy, judge_target
from sidekey.policy.urls import InvalidTarget, Origin, Target, check_characters, parse_origin

COPY_SOURCE: Final = b"x-amz-copy-source"
RENAME_SOURCE: Final = b"x-amz-rename-source"
_SUFFIX: Final = b"-copy-source"
"""Suffix of this field at other vendors with the API of S3: `x-goog-`, `x-oss-` and `x-cos-copy-source`."""

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION: Final = r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]+"
_ENDPOINT: Final = re.compile(
    rf"s3(?:-fips|-external-1|-{_REGION})?(?:\.dualstack)?(?:\.{_REGION})?\.amazonaws\.com(?:\.cn)?"
    rf"|bucket\.vpce-[a-z0-9-]+\.s3\.{_REGION}\.vpce\.amazonaws\.com(?:\.cn)?"
)
"""The hosts of AWS with the bucket in the path. With `BUCKET.` before such a host, the path has only the key."""
_AWS_HOST: Final = re.compile(r"(?:.+\.)?amazonaws\.com(?:\.cn)?")

_OUTSIDE_PROBLEM: Final = Problem(
    "target_denied", "the source of the copy is outside the integration's policy", denial="copy_source"
)
_ARN_PROBLEM: Final = Problem(
    "target_denied",
    "the source of a copy must be /bucket/key: an access point's ARN does not tell the bucket",
    denial="copy_source",
)
_RENAME_PROBLEM: Final = Problem(
    "target_denied", "X-Amz-Rename-Source is not supported: its source cannot be judged", denial="copy_source"
)
_VENDOR_FIELD_PROBLEM: Final = Problem(
    "target_denied", "the source of a copy must be in X-Amz-Copy-Source, where it is judged", denial="copy_source"
)
_REPEATED_PROBLEM: Final = Problem("request_invalid", "X-Amz-Copy-Source must not be repeated", denial="copy_source")
_MALFORMED_PROBLEM: Final = Problem(
    "request_invalid", "X-Amz-Copy-Source must be /bucket/key, percent-encoded", denial="copy_source"
)


def check_copy(head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
    """Return a problem if the request names the source of a copy that the policy does not allow."""
    if RENAME_SOURCE in head.names:
        return _RENAME_PROBLEM
    # Most requests copy nothing.
    if _SUFFIX not in b" ".join(head.names):
        return None
    if any(name.endswith(_SUFFIX) and name != COPY_SOURCE for name in head.names):
        return _VENDOR_FIELD_PROBLEM
    if COPY_SOURCE not in head.names:
        return None
    values = line_values(head.fields, COPY_SOURCE)
    if len(values) != 1:
        return _REPEATED_PROBLEM
    value = values[0].decode("latin-1")
    # The query may name a version of the object.
    source = value.partition("?")[0]
    if decode(source).lstrip("/").lower().startswith("arn:"):
        return _ARN_PROBLEM
    try:
        # Servers disagree whether `+` is a space here, so both readings must be allowed.
        allowed = all(_is_allowed(path, origin, policy) for path in {source, source.replace("+", "%20")})
    except (InvalidTarget, UnreadablePath):
        return _MALFORMED_PROBLEM
    return None if allowed else _OUTSIDE_PROBLEM


def _is_allowed(source: str, origin: Origin, policy: Policy) -> bool:
    """Return True if the policy allows a source at any of its targets. Raises InvalidTarget, UnreadablePath."""
    check_characters(source)
    bucket, _, key = decode(source).removeprefix("/").partition("/")
    if not bucket or not key:
        raise InvalidTarget
    targets = _source_targets(bucket, encode_path(key), origin, policy)
    return any(judge_target(policy, target).allowed for target in targets)


def _source_targets(bucket: str, key: str, origin: Origin, policy: Policy) -> list[Target]:
    """Return the possible targets of an object at the server of this origin. `key` is encoded."""
    in_path = Target(origin, f"/{encode_path(bucket)}/{key}", None)
    host = origin.host
    if _ENDPOINT.fullmatch(host) or "." not in host or parse_address(host) is not None:
        return [in_path]
    may_be_label = _BUCKET.fullmatch(bucket) is not None
    if _AWS_HOST.fullmatch(host):
        endpoint = _find_endpoint(host)
        return (
            [Target(_origin_at(origin, f"{bucket}.{endpoint}"), f"/{key}", None)] if may_be_label and endpoint else []
        )
    # Only after AWS, where the name of a bucket may begin with `s3`.
    if host.startswith("s3."):
        return [in_path]
    # The vendor is unknown. If a prefix of the policy has a path, assume that it begins with the bucket.
    candidates = [in_path] if any(prefix.path and prefix.origin == origin for prefix in policy.prefixes) else []
    if may_be_label and host.partition(".")[0] == bucket:
        candidates.append(Target(origin, f"/{key}", None))
    return candidates


def _find_endpoint(host: str) -> str:
    """Return the part of an AWS host after the bucket, or an empty text if no bucket is in the host."""
    dot = host.find(".")
    while dot >= 0:
        if _ENDPOINT.fullmatch(host, dot + 1):
            return host[dot + 1 :]
        dot = host.find(".", dot + 1)
    return ""


def _origin_at(origin: Origin, host: str) -> Origin:
    return parse_origin(origin.scheme, f"{host}:{origin.port}")
