"""The source of a copy in S3: a second object that a request names, in `x-amz-copy-source`.

The key that signs may read more than the policy allows, so the source is judged as a target of its own, at the place
where it would be asked for: with the bucket in the path, or as the first label of the host.
"""

from __future__ import annotations

import re
from typing import Final

from sidekey.errors import Problem
from sidekey.policy import targets as policies
from sidekey.policy.addresses import literal
from sidekey.policy.canonical import encoded_path
from sidekey.policy.decoding import decode
from sidekey.policy.headers import line_values
from sidekey.policy.messages import RequestHead
from sidekey.policy.paths import UnreadablePath
from sidekey.policy.targets import Policy
from sidekey.policy.urls import InvalidTarget, Origin, Target, check_characters, parse_origin

COPY_SOURCE: Final = b"x-amz-copy-source"
RENAME_SOURCE: Final = b"x-amz-rename-source"
_SUFFIX: Final = b"-copy-source"
"""How vendors whose servers speak S3 call the same field in their own dialect: `x-goog-`, `x-oss-`, `x-cos-`."""

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION: Final = r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]+"
_ENDPOINT: Final = re.compile(
    rf"s3(?:-fips|-external-1|-{_REGION})?(?:\.dualstack)?(?:\.{_REGION})?\.amazonaws\.com(?:\.cn)?"
    rf"|bucket\.vpce-[a-z0-9-]+\.s3\.{_REGION}\.vpce\.amazonaws\.com(?:\.cn)?"
)
"""The hosts of AWS at which the bucket is in the path, and behind a bucket and a dot at which it is in the host."""
_AWS: Final = re.compile(r"(?:.+\.)?amazonaws\.com(?:\.cn)?")

_OUTSIDE: Final = Problem(
    "target_denied", "the source of the copy is outside the integration's policy", denial="copy_source"
)
_ARN: Final = Problem(
    "target_denied",
    "the source of a copy must be /bucket/key: an access point's ARN does not tell the bucket",
    denial="copy_source",
)
_RENAME: Final = Problem(
    "target_denied", "X-Amz-Rename-Source is not supported: its source cannot be judged", denial="copy_source"
)
_OF_A_VENDOR: Final = Problem(
    "target_denied", "the source of a copy must be in X-Amz-Copy-Source, where it is judged", denial="copy_source"
)
_REPEATED: Final = Problem("request_invalid", "X-Amz-Copy-Source must not be repeated", denial="copy_source")
_MALFORMED: Final = Problem(
    "request_invalid", "X-Amz-Copy-Source must be /bucket/key, percent-encoded", denial="copy_source"
)


def copy_refusal(head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
    """Why the source that a request to this origin names may not be read."""
    if RENAME_SOURCE in head.names:
        return _RENAME
    # Most requests copy nothing.
    if _SUFFIX not in b" ".join(head.names):
        return None
    if any(name.endswith(_SUFFIX) and name != COPY_SOURCE for name in head.names):
        return _OF_A_VENDOR
    if COPY_SOURCE not in head.names:
        return None
    values = line_values(head.fields, COPY_SOURCE)
    if len(values) != 1:
        return _REPEATED
    source = values[0].decode("latin-1")
    # A version of the object may be named behind it.
    written = source.partition("?")[0]
    if decode(written).lstrip("/").lower().startswith("arn:"):
        return _ARN
    try:
        # Servers differ in whether a `+` is a space here.
        allowed = all(_is_inside(each, origin, policy) for each in {written, written.replace("+", "%20")})
    except (InvalidTarget, UnreadablePath):
        return _MALFORMED
    return None if allowed else _OUTSIDE


def _is_inside(written: str, origin: Origin, policy: Policy) -> bool:
    """Whether a source is a target that the policy allows. Raises InvalidTarget, UnreadablePath."""
    check_characters(written)
    bucket, _, key = decode(written).removeprefix("/").partition("/")
    if not bucket or not key:
        raise InvalidTarget
    return any(policies.judge(policy, target).allowed for target in _places(bucket, encoded_path(key), origin, policy))


def _places(bucket: str, key: str, origin: Origin, policy: Policy) -> list[Target]:
    """Where the object may be asked for at the server that this origin is of; nowhere, where that is not known.

    `key` is encoded.
    """
    in_path = Target(origin, f"/{encoded_path(bucket)}/{key}", None)
    host = origin.host
    if _ENDPOINT.fullmatch(host) or "." not in host or literal(host) is not None:
        return [in_path]
    named = _BUCKET.fullmatch(bucket) is not None
    if _AWS.fullmatch(host):
        endpoint = _endpoint(host)
        return [Target(_at(origin, f"{bucket}.{endpoint}"), f"/{key}", None)] if named and endpoint else []
    # At AWS a bucket may have a name that begins so.
    if host.startswith("s3."):
        return [in_path]
    # Nothing tells whose server it is: a prefix that has a path is taken to name the bucket in it.
    found = [in_path] if any(prefix.path and prefix.origin == origin for prefix in policy.prefixes) else []
    if named and host.partition(".")[0] == bucket:
        found.append(Target(origin, f"/{key}", None))
    return found


def _endpoint(host: str) -> str:
    """What is behind the bucket in a host of AWS; empty where no bucket is, such as in an access point's."""
    at = host.find(".")
    while at >= 0:
        if _ENDPOINT.fullmatch(host, at + 1):
            return host[at + 1 :]
        at = host.find(".", at + 1)
    return ""


def _at(origin: Origin, host: str) -> Origin:
    return parse_origin(origin.scheme, f"{host}:{origin.port}")
