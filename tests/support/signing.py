"""A signer over a complete request, with a record of its arguments, to compare with the bytes at an upstream."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints, Pairs
from sidekey.credentials.signing import OutgoingRequest, RandomIds, Signer, SigningRules
from sidekey.errors import Problem
from sidekey.policy.messages import RequestHead
from sidekey.policy.targets import Policy
from sidekey.policy.urls import Origin
from sidekey.snapshot.snapshot import Integration
from support.plane import AUTHORIZATION, base_url, integration, secrets_of

NAMES = frozenset({b"x-id", b"x-time", b"x-nonce", b"x-signature"})
KEY = b"canary-key-of-all-signatures"

DENIED = Problem("request_invalid", "X-Denied must not be sent")
UNSIGNABLE = Problem("request_invalid", "X-Unsignable must not be sent")


class SignatureCall(NamedTuple):
    """The arguments of one signature."""

    request: OutgoingRequest
    body: tuple[bytes, ...]
    now: float
    unique: RandomIds

    @property
    def head(self) -> bytes:
        """Build the head up to the signature."""
        return b"%b %b HTTP/1.1%b" % (self.request.method, self.request.target, b"".join(self.request.lines))


class HmacSigner(Signer):
    """HMAC-SHA-256 over every byte of head and body, a time and a nonce. `signed` has the arguments in order."""

    def __init__(self, key: bytes = KEY, *, slow: bool = False) -> None:
        self.key = key
        self.slow = slow
        self.signed: list[SignatureCall] = []

    def check(self, request: OutgoingRequest) -> Problem | None:
        return UNSIGNABLE if request.values(b"x-unsignable") else None

    def names(self, request: OutgoingRequest) -> list[bytes]:
        return sorted(NAMES - {b"x-id"} if request.values(b"x-id") else NAMES)

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
        arguments = SignatureCall(request, tuple(body), now, unique)
        self.signed.append(arguments)
        added = [] if request.values(b"x-id") else [b"\r\nX-Id: msg_" + unique.message.hex().encode()]
        added += [b"\r\nX-Time: %d" % now, b"\r\nX-Nonce: " + unique.nonce.hex().encode()]
        mac = hmac.digest(self.key, b"".join((arguments.head, *added, b"\r\n\r\n", *body)), "sha256")
        return [*added, b"\r\nX-Signature: " + mac.hex().encode()]

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds
    ) -> list[bytes]:
        text = b"".join(body) if body is not None else b"[redacted]"
        return [SignatureCall(request, (), now, unique).head + b"\r\n\r\n" + text]


class HmacRules(SigningRules):
    """Rules of the signer: a request with X-Unsigned-Body streams, one with X-Denied is refused."""

    def __init__(self, *, body: bool = True) -> None:
        super().__init__(NAMES, caller_fields=frozenset({b"x-id"}), body=body)

    def needs_body(self, head: RequestHead) -> bool:
        return self.body and b"x-unsigned-body" not in head.names

    def refusal(self, head: RequestHead, origin: Origin, policy: Policy) -> Problem | None:
        return DENIED if b"x-denied" in head.names else None


def grant_of(signer: Signer, *, headers: Pairs = AUTHORIZATION, query: Pairs = (), body: Pairs = ()) -> Grant:
    """Build a grant with a signer."""
    return Grant(headers=headers, query=query, body=body, signer=signer)


def signing_integration(
    signer: Signer,
    name: str = "h",
    *,
    port: int = 1,
    base: str = "",
    query: Pairs = (),
    body: Pairs = (),
    watched: frozenset[int] = frozenset(),
    rules: SigningRules | None = None,
    redact_response: bool = False,
) -> Integration:
    """Build an integration that signs requests and injects a header, query and body fields."""
    grant = grant_of(signer, query=query, body=body)
    places = InjectionPoints(("Authorization",), tuple(field for field, _ in query), tuple(field for field, _ in body))
    traits = CredentialTraits(places, watched=watched, signing=rules or HmacRules())
    signed_integration = integration(name, base or base_url(port), traits=traits)
    return replace(signed_integration, secrets=secrets_of(grant), redact_response=redact_response)


def verify(raw: bytes, body: bytes, key: bytes = KEY) -> None:
    """Check the signature of a request: `raw` has all its bytes, `body` the unframed body."""
    head, end, _ = raw.partition(b"\r\n\r\n")
    signed, mark, signature = head.rpartition(b"\r\nX-Signature: ")
    assert mark, "the request is not signed"
    expected = hmac.new(key, signed + end + body, hashlib.sha256).hexdigest().encode()
    assert hmac.compare_digest(signature, expected)
