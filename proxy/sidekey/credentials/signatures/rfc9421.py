"""HTTP Message Signatures (RFC 9421), with Content-Digest (RFC 9530)."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from sidekey.credentials.secret_holder import SecretHolder
from sidekey.credentials.signatures.keys import SigningKey
from sidekey.credentials.signatures.template import REDACTED, check_signed_name
from sidekey.credentials.signing import OutgoingRequest, RandomIds, Signer, SigningRules
from sidekey.errors import Problem
from sidekey.policy.headers import normalise

Asymmetric = Literal["ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512"]

DEFAULT_COMPONENTS: Final = ("@method", "@target-uri", "content-type", "content-digest")
DEFAULT_LABEL: Final = "sig1"

_DIGEST: Final = "content-digest"
_OF_BODY: Final = "content-"
"""How the names of fields begin that are left out where there is no body."""

_DEFAULT_PORTS: Final[Mapping[bytes, bytes]] = MappingProxyType({b"http": b":80", b"https": b":443"})
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")


def _authority(request: OutgoingRequest) -> bytes:
    """RFC 9421 2.2.3: in lower case, without the port that the scheme has anyway."""
    authority = request.authority.lower()
    return authority.removesuffix(_DEFAULT_PORTS.get(request.scheme, b":"))


_DERIVED: Final[Mapping[str, Callable[[OutgoingRequest], bytes]]] = MappingProxyType(
    {
        "@method": lambda request: request.method,
        "@target-uri": lambda request: b"%b://%b%b" % (request.scheme, _authority(request), request.target),
        "@authority": _authority,
        "@scheme": lambda request: request.scheme,
        "@request-target": lambda request: request.target,
        "@path": lambda request: request.target.partition(b"?")[0],
        "@query": lambda request: b"?" + request.target.partition(b"?")[2],
    }
)
"""RFC 9421 2.2, as far as they are of requests and take no parameter."""


def check_component(name: str) -> None:
    """Raise ValueError for what cannot be a component."""
    if ";" in name:
        raise ValueError("must be a component without parameters")
    if name.startswith("@"):
        if name not in _DERIVED:
            raise ValueError(f"must be the name of a header, or {', '.join(_DERIVED)}")
        return
    check_signed_name(name)
    if name != name.lower():
        raise ValueError("must be in lower case (RFC 9421 2.1)")
    if normalise(name.encode()) in (b"signature", b"signature-input"):
        raise ValueError("is a header that this signature writes: no signature can cover itself")


def check_label(label: str) -> None:
    """Raise ValueError for what is no key of a dictionary (RFC 8941 3.2)."""
    if not _KEY.fullmatch(label):
        raise ValueError("must be lower case letters, digits, and _ . * -, not beginning with a digit (RFC 8941 3.1.2)")


def check_string(text: str) -> None:
    """Raise ValueError for what cannot be a string (RFC 8941 3.3.3)."""
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("must consist of printable ASCII characters (RFC 8941 3.3.3)")


def _string(text: str) -> bytes:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'.encode()


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is signed, and what is said of the signature. `expires` is in seconds, 0 for none."""

    components: tuple[str, ...] = DEFAULT_COMPONENTS
    label: str = DEFAULT_LABEL
    expires: int = 0
    nonce: bool = False
    tag: str = ""

    def rules(self) -> SigningRules:
        """What is known of the signer before its key is read."""
        fields = frozenset(normalise(name.encode()) for name in self.components if not name.startswith("@"))
        digest = _DIGEST in self.components
        names = {b"signature", b"signature-input", *([_DIGEST.encode()] if digest else ())}
        return SigningRules(frozenset(names), signed=fields, body=digest)


class _Component(NamedTuple):
    """One part of what is signed: its name, how its line in the signature base begins, and how its value is found."""

    name: str
    begin: bytes
    normal: bytes
    derive: Callable[[OutgoingRequest], bytes] | None


class _Covered(NamedTuple):
    """What a signature covers, and how it says so."""

    components: tuple[_Component, ...]
    names: bytes


def _covered(names: Sequence[str]) -> _Covered:
    components = tuple(
        _Component(name, _string(name) + b": ", normalise(name.encode()), _DERIVED.get(name)) for name in names
    )
    return _Covered(components, b"(%b)" % b" ".join(map(_string, names)))


class MessageSigner(SecretHolder, Signer):
    """Signs as RFC 9421 says, by one key."""

    def __init__(self, key: SigningKey, key_id: str, parameters: Parameters) -> None:
        self.slow = key.slow
        self._key = key
        label, names = parameters.label.encode(), parameters.components
        self._before_input = b"\r\nSignature-Input: " + label + b"="
        self._before_signature = b"\r\nSignature: " + label + b"=:"
        self._expires = parameters.expires
        self._nonce = parameters.nonce
        self._behind = b";keyid=" + _string(key_id) + (b";tag=" + _string(parameters.tag) if parameters.tag else b"")
        self._digest = _DIGEST in names
        self._with_body = _covered(names)
        self._without_body = _covered([name for name in names if not name.startswith(_OF_BODY)])

    def __repr__(self) -> str:
        return "MessageSigner(REDACTED)"

    def check(self, request: OutgoingRequest) -> Problem | None:
        """A field that is signed and not there."""
        covered = self._with_body if _has_body(request) else self._without_body
        for name, _, normal, derive in covered.components:
            if derive is None and name != _DIGEST and not request.values(normal):
                return Problem("request_invalid", f"the header {name} must be sent: the signature covers it")
        return None

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Those of the RFC, and `Content-Digest` where there is a body."""
        names = [b"signature-input", b"signature"]
        return [_DIGEST.encode(), *names] if self._digest and _has_body(request) else names

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, unique: RandomIds) -> list[bytes]:
        """`Content-Digest` where there is a body, `Signature-Input` and `Signature`."""
        digest, base, parameters = self._base(request, body, now, unique)
        signature = b64encode(self._key.sign([base]))
        lines = [] if digest is None else [b"\r\nContent-Digest: " + digest]
        lines += [self._before_input + parameters, self._before_signature + signature + b":"]
        return lines

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds
    ) -> list[bytes]:
        """The signature base (RFC 9421 2.5)."""
        return [self._base(request, body, now, unique)[1]]

    @staticmethod
    def _digest_of(body: Sequence[bytes] | None) -> bytes:
        """The value of Content-Digest."""
        if body is None:
            return REDACTED
        digest = hashlib.sha256()
        for piece in body:
            digest.update(piece)
        return b"sha-256=:%b:" % b64encode(digest.digest())

    def _base(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, unique: RandomIds
    ) -> tuple[bytes | None, bytes, bytes]:
        """Content-Digest where it is written, the signature base, and the parameters that are its last line."""
        has_body = _has_body(request)
        digest = self._digest_of(body) if self._digest and has_body else None
        covered = self._with_body if has_body else self._without_body
        lines = []
        for name, begin, normal, derive in covered.components:
            if derive is not None:
                value = derive(request)
            elif name == _DIGEST and digest is not None:
                value = digest
            else:
                value = b", ".join(request.values(normal))
            lines.append(begin + value + b"\n")
        parameters = [b"%b;created=%d" % (covered.names, now)]
        if self._expires:
            parameters.append(b";expires=%d" % (int(now) + self._expires))
        if self._nonce:
            parameters.append(b';nonce="%b"' % unique.nonce.hex().encode())
        parameters.append(self._behind)
        said = b"".join(parameters)
        lines.append(b'"@signature-params": %b' % said)
        return digest, b"".join(lines), said


def _has_body(request: OutgoingRequest) -> bool:
    """Whether the request as it is written has a body: known from its framing, also where the body is not read here."""
    lengths = request.values(b"content-length")
    return (bool(lengths) and lengths != [b"0"]) or bool(request.values(b"transfer-encoding"))
