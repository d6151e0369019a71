r"""AWS Signature Version 4 (docs.aws.amazon.com, "Signature Version 4 for API requests").

What is signed are Host, Content-Type and every `x-amz-*`: hops may change any other field. Targets must have come in
the one spelling of `core.spelling`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from sidekey.credentials.aws.copy_source import COPY_SOURCE, RENAME_SOURCE, copy_refusal
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
"""Services that speak S3: the path is signed as it is sent, and the payload's hash is a field of every request."""

_HASH_FIELD: Final = S3 | {"aoss", "glacier"}
"""Services that require the field of the payload's hash; to others it would only be one more field."""

_PAYLOAD: Final = b"x-amz-content-sha256"
_TOKEN: Final = b"x-amz-security-token"
_WRITTEN: Final = frozenset({b"authorization", b"date", b"x-amz-date", _TOKEN, _PAYLOAD})
_FAMILY: Final = b"x-amz-"

_EMPTY: Final = sha256().hexdigest().encode()
_REDACTED: Final = b"[redacted]"
_TO_CHANGE: Final = re.compile(rb"[^A-Za-z0-9_.~/-]|/[/.]")
"""What a path may have for which its canonical form is another one."""

_NOT_HERE: Final = Problem(
    "body_unsupported",
    "a payload with an unsigned trailer may be sent to S3 by https alone: set request_checksum_calculation to "
    "when_required in the SDK (AWS_REQUEST_CHECKSUM_CALCULATION=when_required)",
    denial="payload_not_signed",
)
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))

_IN_THE_CLEAR: Final = Problem(
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
    """The path as it is signed: of S3 as it is sent, of others without dot and empty segments and encoded again."""
    if s3 or not _TO_CHANGE.search(path):
        return path
    return quote_from_bytes(_without_redundant_segments(path), safe=b"/-_.~").encode()


def _without_redundant_segments(path: bytes) -> bytes:
    """RFC 3986 5.2.4, and without empty segments."""
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment not in (b"", b"."):
            kept.append(segment)
    # As AWS has it: `/a/.` is `/a`, `/a/` stays.
    end = b"/" if kept and not segments[-1] else b""
    return b"/%b%b" % (b"/".join(kept), end)


def canonical_query(query: bytes) -> bytes:
    """The parts of a query as they are signed: sorted by name, then by value, each with an equals sign."""
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
    """The canonical request, and its signed names.

    Path and query are canonical; the fields' names are in lower case, their values trimmed and those of one name
    joined. `payload` is its hash, or what stands for it.
    """
    names = sorted(fields)
    signed = b";".join(names)
    lines = [method, path, query, *[name + b":" + fields[name] for name in names], b"", signed, payload]
    return b"\n".join(lines), signed


def add_field(fields: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """Note a field's value, without blanks around it and with one space where there are several."""
    value = b" ".join(value.split())
    fields[name] = b"%b,%b" % (fields[name], value) if name in fields else value


def string_to_sign(stamp: bytes, scope: bytes, request: bytes) -> bytes:
    """What is signed of a canonical request: `stamp` is the time, `scope` what the key is for."""
    return b"%b\n%b\n%b\n%b" % (ALGORITHM, stamp, scope, sha256(request).hexdigest().encode())


class SigningKey:
    """The key of one day, region and service: an HMAC (RFC 2104) that has taken in its key once for all texts."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes, date: bytes, region: bytes, service: bytes) -> None:
        key = b"AWS4" + secret
        for part in (date, region, service, b"aws4_request"):
            key = digest(key, part, "sha256")
        padded = key.ljust(64, b"\0")
        self._inner: Final = sha256(padded.translate(_INNER_PAD))
        self._outer: Final = sha256(padded.translate(_OUTER_PAD))

    def sign(self, text: bytes) -> bytes:
        """The signature of a text, in hex."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.hexdigest().encode()


def time_stamp(now: float) -> bytes:
    """Seconds since the epoch as ISO 8601 in its basic format."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ").encode()


class CredentialScope(NamedTuple):
    """What a signature counts for."""

    region: str
    service: str


class AccessKey(NamedTuple):
    """An access key: its ID, its secret, and the session token of a temporary one."""

    identity: bytes
    secret: bytes
    token: bytes | None = None

    def __repr__(self) -> str:
        return "AccessKey(REDACTED)"

    def __reduce__(self) -> str:
        raise TypeError("AccessKey holds secrets and is not pickled")


class _Dated(NamedTuple):
    """What all signatures of one second have in common; the key is that of the day."""

    second: int
    stamp: bytes
    scope: bytes
    key: SigningKey
    begin: bytes


class SigV4Signer(Signer):
    """Signs with one access key for one region and service. `payload`: whether the body is signed."""

    draws = False

    def __init__(self, key: AccessKey, scope: CredentialScope, *, payload: bool) -> None:
        self._access_key: Final = key
        self._region: Final = scope.region.encode()
        self._service: Final = scope.service.encode()
        self._s3: Final = scope.service in S3
        self._writes_hash: Final = scope.service in _HASH_FIELD
        self._payload: Final = payload
        token = key.token
        self._token: Final = token
        self._token_line: Final = None if token is None else b"\r\nX-Amz-Security-Token: " + token
        # Replaced as a whole: a long body is signed in a thread.
        self._dated: _Dated | None = None

    def __repr__(self) -> str:
        return "SigV4Signer(REDACTED)"

    def __reduce__(self) -> str:
        raise TypeError("SigV4Signer holds secrets and is not pickled")

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Whatever the request, the same."""
        del request
        further = ((_PAYLOAD, self._writes_hash), (_TOKEN, self._token is not None))
        return [b"authorization", b"x-amz-date", *(name for name, is_written in further if is_written)]

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
        """Authorization, the time, where they are asked for the hash of the payload, and the session token."""
        del unique
        dated = self._dated
        if dated is None or dated.second != int(now):
            dated = self._date(now)
        payload = self._payload_hash(request, body)
        text, signed = self._canonical(request, dated.stamp, payload, self._token)
        found = dated.key.sign(string_to_sign(dated.stamp, dated.scope, text))
        lines = [
            b"%b%b, Signature=%b" % (dated.begin, signed, found),
            b"\r\nX-Amz-Date: " + dated.stamp,
        ]
        if self._writes_hash:
            lines.append(b"\r\nX-Amz-Content-Sha256: " + payload)
        if self._token_line is not None:
            lines.append(self._token_line)
        return lines

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds
    ) -> list[bytes]:
        """The canonical request, and the string to sign, which has its digest."""
        del unique
        dated = self._date(now)
        payload = _REDACTED
        if body is not None or self._stands_for_hash(request) is not None:
            payload = self._payload_hash(request, body or ())
        token = None if self._token is None else _REDACTED
        text, _ = self._canonical(request, dated.stamp, payload, token)
        signed = string_to_sign(dated.stamp, dated.scope, text)
        if _REDACTED in text:
            # Its digest is one over a secret.
            signed = signed[: signed.rindex(b"\n") + 1] + _REDACTED
        return [text, signed]

    def _date(self, now: float) -> _Dated:
        stamp = time_stamp(now)
        date = stamp[:8]
        scope = b"%b/%b/%b/aws4_request" % (date, self._region, self._service)
        former = self._dated
        if former is not None and former.scope == scope:
            key = former.key
        else:
            key = SigningKey(self._access_key.secret, date, self._region, self._service)
        begin = b"\r\nAuthorization: %b Credential=%b/%b, SignedHeaders=" % (
            ALGORITHM,
            self._access_key.identity,
            scope,
        )
        dated = self._dated = _Dated(int(now), stamp, scope, key, begin)
        return dated

    def _canonical(
        self, request: OutgoingRequest, stamp: bytes, payload: bytes, token: bytes | None
    ) -> tuple[bytes, bytes]:
        fields = {b"host": request.authority, b"x-amz-date": stamp}
        for line in request.lines:
            # C, c, X, x: most fields are not signed, and are told by a letter.
            if line[2] in b"CcXx":
                name, _, value = line[2:].partition(b":")
                name = name.lower()
                if name == b"content-type" or name.startswith(_FAMILY):
                    add_field(fields, name, value)
        if self._writes_hash:
            fields[_PAYLOAD] = payload
        if token is not None:
            fields[_TOKEN] = token
        path, _, query = request.target.partition(b"?")
        path = canonical_path(path, s3=self._s3)
        return canonical_request(request.method, path, canonical_query(query), fields, payload)

    def _stands_for_hash(self, request: OutgoingRequest) -> bytes | None:
        """What is signed in place of the payload's hash, where it is."""
        if request.received is not None and _streams(request.received):
            return STREAMING_UNSIGNED
        return None if self._payload else UNSIGNED

    def _payload_hash(self, request: OutgoingRequest, body: Sequence[bytes]) -> bytes:
        stand_in = self._stands_for_hash(request)
        if stand_in is not None:
            return stand_in
        if not body:
            return _EMPTY
        hashed = sha256(body[0])
        for piece in body[1:]:
            hashed.update(piece)
        return hashed.hexdigest().encode()


class SigV4Rules(SigningRules):
    """The rules of such a signer. `payload`: whether the body is signed, and so held until it is whole."""

    def __init__(self, service: str, *, payload: bool) -> None:
        # What names a second object is judged as callers send it: it must not be added behind that.
        signed = frozenset({b"host", b"content-type", COPY_SOURCE, RENAME_SOURCE})
        super().__init__(_WRITTEN, signed=signed, body=payload)
        self._s3: Final = service in S3

    def _compared(self) -> tuple[object, ...]:
        return (*super()._compared(), self._s3)

    def signs(self, name: bytes) -> bool:
        """Every `x-amz-*` as well."""
        return name.startswith(_FAMILY) or super().signs(name)

    def needs_body(self, head: RequestHead) -> bool:
        """Not where the caller frames the payload so that it is not signed."""
        return self.body and not _streams(head)

    def refusal(self, head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
        """A payload that the caller frames in a way that cannot be signed here, and a source that is outside."""
        if not self.body and origin.scheme != "https":
            return _IN_THE_CLEAR
        if _PAYLOAD in head.names and (problem := self._framing_refusal(head, origin)) is not None:
            return problem
        # Whatever the service: directory buckets are signed for `s3express`, and other vendors have names of their own.
        return copy_refusal(head, origin, policy)

    def _framing_refusal(self, head: RequestHead, origin: Origin) -> Problem | None:
        values = [value.upper() for value in line_values(head.fields, _PAYLOAD)]
        framed = [value for value in values if value.startswith(b"STREAMING-")]
        if not framed:
            return None
        if len(values) > 1:
            return _TWO_HASHES
        if framed[0] != STREAMING_UNSIGNED:
            return _SIGNED_CHUNKS
        return None if self._s3 and origin.scheme == "https" else _NOT_HERE


def _streams(head: RequestHead) -> bool:
    """Whether the payload comes with a trailer and is not signed."""
    if _PAYLOAD not in head.names:
        return False
    return [value.upper() for value in line_values(head.fields, _PAYLOAD)] == [STREAMING_UNSIGNED]
