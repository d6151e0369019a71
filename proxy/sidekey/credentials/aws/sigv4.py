r"""AWS Signature Version 4 (docs.aws.amazon.com, "Signature Version 4 for API requests").

The signature covers Host, Content-Type and every `x-amz-*`, because hops may change other fields. Targets must be in
the canonical form of `policy.canonical`.
"""

from __future__ import annotations

import re
from binascii import hexlify
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from sidekey.credentials.aws.copy_source import COPY_SOURCE, RENAME_SOURCE, check_copy
from sidekey.credentials.signatures.keys import Hmac
from sidekey.credentials.signing import OutgoingRequest, RandomIds, Signer, SigningRules
from sidekey.errors import Problem
from sidekey.policy.headers import line_values
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy
from sidekey.policy.urls import Origin

ALGORITHM: Final = b"AWS4-HMAC-SHA256"
UNSIGNED: Final = b"UNSIGNED-PAYLOAD"
STREAMING_UNSIGNED: Final = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"

S3: Final = frozenset({"s3", "s3-object-lambda", "s3-outposts"})
"""Services with the API of S3: the path is signed as sent, and every request has the field of the payload's hash."""

_HASH_SERVICES: Final = S3 | {"aoss", "glacier"}
"""Services that require the field of the payload's hash."""

_HASH_FIELD: Final = b"x-amz-content-sha256"
_TOKEN: Final = b"x-amz-security-token"
_SIGNER_FIELDS: Final = frozenset({b"authorization", b"date", b"x-amz-date", _TOKEN, _HASH_FIELD})
_AMZ_PREFIX: Final = b"x-amz-"

_EMPTY_HASH: Final = sha256().hexdigest().encode()
_REDACTED: Final = b"[redacted]"
_NOT_CANONICAL: Final = re.compile(rb"[^A-Za-z0-9_.~/-]|/[/.]")
"""Matches a path that differs from its canonical form."""

_UNSIGNED_TRAILER: Final = Problem(
    "body_unsupported",
    "a payload with an unsigned trailer may be sent to S3 by https alone: set request_checksum_calculation to "
    "when_required in the SDK (AWS_REQUEST_CHECKSUM_CALCULATION=when_required)",
    denial="payload_not_signed",
)

_UNSIGNED_OVER_HTTP: Final = Problem(
    "body_unsupported", "an unsigned payload may be sent by https alone", denial="payload_not_signed"
)
_SIGNED_CHUNKS: Final = Problem(
    "body_unsupported",
    "each chunk of the payload is signed with the caller's own key: turn that off in the SDK "
    "(AWS_REQUEST_CHECKSUM_CALCULATION=when_required; chunkedEncodingEnabled(false) in Java, UseChunkEncoding = false "
    "in .NET), or send by https",
    denial="payload_not_signed",
)
_TWO_HASHES: Final = Problem("request_invalid", "X-Amz-Content-Sha256 must not be repeated")


def canonical_path(path: bytes, *, s3: bool) -> bytes:
    """Return the path to sign: unchanged for S3, else encoded again and without dot segments and empty segments."""
    if s3 or not _NOT_CANONICAL.search(path):
        return path
    return quote_from_bytes(_without_redundant_segments(path), safe=b"/-_.~").encode()


def _without_redundant_segments(path: bytes) -> bytes:
    """Remove dot segments (RFC 3986 5.2.4) and empty segments."""
    result: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            if result:
                result.pop()
        elif segment not in (b"", b"."):
            result.append(segment)
    # At AWS, `/a/.` becomes `/a`, but `/a/` stays.
    end = b"/" if result and not segments[-1] else b""
    return b"/%b%b" % (b"/".join(result), end)


def canonical_query(query: bytes) -> bytes:
    """Return the query to sign: sorted by name, then by value, each parameter with an equals sign."""
    if b"&" not in query:
        return query if not query or b"=" in query else query + b"="
    parts = []
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        parts.append((name, value))
    parts.sort()
    return b"&".join([b"%b=%b" % part for part in parts])


def canonical_request(
    method: bytes, path: bytes, query: bytes, fields: Mapping[bytes, bytes], payload: bytes
) -> tuple[bytes, bytes]:
    """Return the canonical request and its list of signed names.

    Path and query are canonical. The names of `fields` are in lower case, their values trimmed and joined by name.
    `payload` is the hash of the payload, or its substitute.
    """
    names = sorted(fields)
    signed = b";".join(names)
    lines = [method, path, query, *[name + b":" + fields[name] for name in names], b"", signed, payload]
    return b"\n".join(lines), signed


def add_field(fields: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """Add a value to the fields of its name, trimmed and with single spaces."""
    value = b" ".join(value.split())
    fields[name] = b"%b,%b" % (fields[name], value) if name in fields else value


def string_to_sign(timestamp: bytes, scope: bytes, request: bytes) -> bytes:
    """Build the string to sign from the formatted time, the credential scope and the canonical request."""
    return b"%b\n%b\n%b\n%b" % (ALGORITHM, timestamp, scope, sha256(request).hexdigest().encode())


def derive_key(secret: bytes, date: bytes, region: bytes, service: bytes) -> Hmac:
    """Derive the key of one day, region and service."""
    key = b"AWS4" + secret
    for part in (date, region, service, b"aws4_request"):
        key = digest(key, part, "sha256")
    return Hmac(key, "hmac-sha256")


def format_time(now: float) -> bytes:
    """Format seconds since the epoch in the basic format of ISO 8601."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ").encode()


class CredentialScope(NamedTuple):
    """The region and the service for which a signature is valid."""

    region: str
    service: str


class AccessKey(NamedTuple):
    """An access key: its ID, its secret, and the session token of a temporary key."""

    identity: bytes
    secret: bytes
    token: bytes | None = None

    def __repr__(self) -> str:
        return "AccessKey(REDACTED)"

    def __reduce__(self) -> str:
        raise TypeError("AccessKey holds secrets and is not pickled")


class _DatedParts(NamedTuple):
    """The parts that all signatures of one second share, and the key of that day."""

    second: int
    timestamp: bytes
    scope: bytes
    key: Hmac
    prefix: bytes


class SigV4Signer(Signer):
    """Signs with one access key for one region and service, and signs the body if `sign_payload` is true."""

    uses_random_ids = False

    def __init__(self, key: AccessKey, scope: CredentialScope, *, sign_payload: bool) -> None:
        self._access_key: Final = key
        self._region: Final = scope.region.encode()
        self._service: Final = scope.service.encode()
        self._s3: Final = scope.service in S3
        self._writes_hash: Final = scope.service in _HASH_SERVICES
        self._sign_payload: Final = sign_payload
        token = key.token
        self._token: Final = token
        self._token_line: Final = None if token is None else b"\r\nX-Amz-Security-Token: " + token
        # Replaced in one assignment, because threads sign long bodies.
        self._dated: _DatedParts | None = None

    def __repr__(self) -> str:
        return "SigV4Signer(REDACTED)"

    def __reduce__(self) -> str:
        raise TypeError("SigV4Signer holds secrets and is not pickled")

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Return the fields that `sign` adds, which are the same for each request."""
        del request
        optional = ((_HASH_FIELD, self._writes_hash), (_TOKEN, self._token is not None))
        return [b"authorization", b"x-amz-date", *(name for name, is_written in optional if is_written)]

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, random_ids: RandomIds) -> list[bytes]:
        """Return Authorization, the time, the payload's hash if the service requires it, and the session token."""
        del random_ids
        dated = self._dated
        if dated is None or dated.second != int(now):
            dated = self._build_dated(now)
        payload = self._payload_hash(request, body)
        text, signed = self._canonicalize(request, dated.timestamp, payload, self._token)
        signature = hexlify(dated.key.sign([string_to_sign(dated.timestamp, dated.scope, text)]))
        lines = [
            b"%b%b, Signature=%b" % (dated.prefix, signed, signature),
            b"\r\nX-Amz-Date: " + dated.timestamp,
        ]
        if self._writes_hash:
            lines.append(b"\r\nX-Amz-Content-Sha256: " + payload)
        if self._token_line is not None:
            lines.append(self._token_line)
        return lines

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, random_ids: RandomIds
    ) -> list[bytes]:
        """Return the canonical request, and the string to sign, which contains its digest."""
        del random_ids
        dated = self._build_dated(now)
        payload = _REDACTED
        if body is not None or self._hash_substitute(request) is not None:
            payload = self._payload_hash(request, body or ())
        token = None if self._token is None else _REDACTED
        text, _ = self._canonicalize(request, dated.timestamp, payload, token)
        signed = string_to_sign(dated.timestamp, dated.scope, text)
        if _REDACTED in text:
            # The digest would cover a secret.
            signed = signed[: signed.rindex(b"\n") + 1] + _REDACTED
        return [text, signed]

    def _build_dated(self, now: float) -> _DatedParts:
        timestamp = format_time(now)
        date = timestamp[:8]
        scope = b"%b/%b/%b/aws4_request" % (date, self._region, self._service)
        previous = self._dated
        if previous is not None and previous.scope == scope:
            key = previous.key
        else:
            key = derive_key(self._access_key.secret, date, self._region, self._service)
        prefix = b"\r\nAuthorization: %b Credential=%b/%b, SignedHeaders=" % (
            ALGORITHM,
            self._access_key.identity,
            scope,
        )
        dated = self._dated = _DatedParts(int(now), timestamp, scope, key, prefix)
        return dated

    def _canonicalize(
        self, request: OutgoingRequest, timestamp: bytes, payload: bytes, token: bytes | None
    ) -> tuple[bytes, bytes]:
        fields = {b"host": request.authority, b"x-amz-date": timestamp}
        for line in request.lines:
            # The first letter (C, c, X or x) rules out most fields, which are not signed.
            if line[2] in b"CcXx":
                name, _, value = line[2:].partition(b":")
                name = name.lower()
                if name == b"content-type" or name.startswith(_AMZ_PREFIX):
                    add_field(fields, name, value)
        if self._writes_hash:
            fields[_HASH_FIELD] = payload
        if token is not None:
            fields[_TOKEN] = token
        path, _, query = request.target.partition(b"?")
        path = canonical_path(path, s3=self._s3)
        return canonical_request(request.method, path, canonical_query(query), fields, payload)

    def _hash_substitute(self, request: OutgoingRequest) -> bytes | None:
        """Return the text that replaces the payload's hash in the signature, or None."""
        if request.received is not None and _has_unsigned_trailer(request.received):
            return STREAMING_UNSIGNED
        return None if self._sign_payload else UNSIGNED

    def _payload_hash(self, request: OutgoingRequest, body: Sequence[bytes]) -> bytes:
        substitute = self._hash_substitute(request)
        if substitute is not None:
            return substitute
        if not body:
            return _EMPTY_HASH
        hashed = sha256(body[0])
        for piece in body[1:]:
            hashed.update(piece)
        return hashed.hexdigest().encode()


class SigV4Rules(SigningRules):
    """The rules of `SigV4Signer`. If `sign_payload` is true, Sidekey buffers the complete body."""

    def __init__(self, service: str, *, sign_payload: bool) -> None:
        # The sources of copies are checked in the caller's request, so Sidekey must not inject them later.
        signed = frozenset({b"host", b"content-type", COPY_SOURCE, RENAME_SOURCE})
        super().__init__(_SIGNER_FIELDS, signed=signed, body=sign_payload)
        self._s3: Final = service in S3

    def _comparison_key(self) -> tuple[object, ...]:
        return (*super()._comparison_key(), self._s3)

    def signs(self, name: bytes) -> bool:
        """Return True for every `x-amz-*` as well."""
        return name.startswith(_AMZ_PREFIX) or super().signs(name)

    def needs_body(self, head: RequestHead) -> bool:
        """Return False if the caller frames the payload with an unsigned trailer."""
        return self.body and not _has_unsigned_trailer(head)

    def refusal(self, head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
        """Refuse framings of the payload that cannot be signed, and copies from sources outside the policy."""
        if not self.body and origin.scheme != "https":
            return _UNSIGNED_OVER_HTTP
        if _HASH_FIELD in head.names and (problem := self._framing_refusal(head, origin)) is not None:
            return problem
        # For every service: directory buckets are signed for `s3express`, and other vendors use other names.
        return check_copy(head, origin, policy)

    def _framing_refusal(self, head: RequestHead, origin: Origin) -> Problem | None:
        values = [value.upper() for value in line_values(head.fields, _HASH_FIELD)]
        framed = [value for value in values if value.startswith(b"STREAMING-")]
        if not framed:
            return None
        if len(values) > 1:
            return _TWO_HASHES
        if framed[0] != STREAMING_UNSIGNED:
            return _SIGNED_CHUNKS
        return None if self._s3 and origin.scheme == "https" else _UNSIGNED_TRAILER


def _has_unsigned_trailer(head: RequestHead) -> bool:
    """Return True if the payload has an unsigned trailer."""
    if _HASH_FIELD not in head.names:
        return False
    return [value.upper() for value in line_values(head.fields, _HASH_FIELD)] == [STREAMING_UNSIGNED]
