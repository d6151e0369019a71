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

_CONTENT_DIGEST: Final = "content-digest"
_BODY_FIELDS: Final = "content-"
"""Prefix of the fields that the signature omits if the request has no body."""

_DEFAULT_PORTS: Final[Mapping[bytes, bytes]] = MappingProxyType({b"http": b":80", b"https": b":443"})
_DICTIONARY_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")


def _authority(request: OutgoingRequest) -> bytes:
    """Return the authority in lower case without the scheme's default port (RFC 9421 2.2.3)."""
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
"""The derived components of requests without parameters (RFC 9421 2.2)."""


def check_component(name: str) -> None:
    """Raise ValueError for a name that cannot be a component."""
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
    """Raise ValueError for an invalid key of a dictionary (RFC 8941 3.2)."""
    if not _DICTIONARY_KEY.fullmatch(label):
        raise ValueError("must be lower case letters, digits, and _ . * -, not beginning with a digit (RFC 8941 3.1.2)")


def check_string(text: str) -> None:
    """Raise ValueError for an invalid string (RFC 8941 3.3.3)."""
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("must consist of printable ASCII characters (RFC 8941 3.3.3)")


def _quote(text: str) -> bytes:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'.encode()


@dataclass(frozen=True, slots=True)
class SignatureParameters:
    """The components to sign, and the parameters of the signature. `expires` is in seconds, or 0."""

    components: tuple[str, ...] = DEFAULT_COMPONENTS
    label: str = DEFAULT_LABEL
    expires: int = 0
    nonce: bool = False
    tag: str = ""

    def rules(self) -> SigningRules:
        """Return the rules of the signer."""
        fields = frozenset(normalise(name.encode()) for name in self.components if not name.startswith("@"))
        digest = _CONTENT_DIGEST in self.components
        names = {b"signature", b"signature-input", *([_CONTENT_DIGEST.encode()] if digest else ())}
        return SigningRules(frozenset(names), signed=fields, body=digest)


class _Component(NamedTuple):
    """A component to sign: the prefix of its line in the signature base, and its field name or derivation."""

    name: str
    prefix: bytes
    normalised: bytes
    derive: Callable[[OutgoingRequest], bytes] | None


class _Covered(NamedTuple):
    """The components that a signature covers, and the list of their names in `Signature-Input`."""

    components: tuple[_Component, ...]
    names: bytes


def _build_covered(names: Sequence[str]) -> _Covered:
    components = tuple(
        _Component(name, _quote(name) + b": ", normalise(name.encode()), _DERIVED.get(name)) for name in names
    )
    return _Covered(components, b"(%b)" % b" ".join(map(_quote, names)))


class MessageSigner(SecretHolder, Signer):
    """Signs requests with one key (RFC 9421)."""

    def __init__(self, key: SigningKey, key_id: str, parameters: SignatureParameters) -> None:
        self.slow = key.slow
        self._key = key
        label, names = parameters.label.encode(), parameters.components
        self._input_prefix = b"\r\nSignature-Input: " + label + b"="
        self._signature_prefix = b"\r\nSignature: " + label + b"=:"
        self._expires = parameters.expires
        self._nonce = parameters.nonce
        self._parameters_suffix = (
            b";keyid=" + _quote(key_id) + (b";tag=" + _quote(parameters.tag) if parameters.tag else b"")
        )
        self._digest = _CONTENT_DIGEST in names
        self._with_body = _build_covered(names)
        self._without_body = _build_covered([name for name in names if not name.startswith(_BODY_FIELDS)])

    def __repr__(self) -> str:
        return "MessageSigner(REDACTED)"

    def check(self, request: OutgoingRequest) -> Problem | None:
        """Require every signed field."""
        covered = self._with_body if _has_body(request) else self._without_body
        for name, _, normalised, derive in covered.components:
            if derive is None and name != _CONTENT_DIGEST and not request.values(normalised):
                return Problem("request_invalid", f"the header {name} must be sent: the signature covers it")
        return None

    def names(self, request: OutgoingRequest) -> list[bytes]:
        """Return both fields of the RFC, and `Content-Digest` if there is a body."""
        names = [b"signature-input", b"signature"]
        return [_CONTENT_DIGEST.encode(), *names] if self._digest and _has_body(request) else names

    def sign(self, request: OutgoingRequest, body: Sequence[bytes], now: float, random_ids: RandomIds) -> list[bytes]:
        """Return `Content-Digest` if there is a body, `Signature-Input` and `Signature`."""
        digest, base, parameters = self._build_base(request, body, now, random_ids)
        signature = b64encode(self._key.sign([base]))
        lines = [] if digest is None else [b"\r\nContent-Digest: " + digest]
        lines += [self._input_prefix + parameters, self._signature_prefix + signature + b":"]
        return lines

    def explain(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, random_ids: RandomIds
    ) -> list[bytes]:
        """Return the signature base (RFC 9421 2.5)."""
        return [self._build_base(request, body, now, random_ids)[1]]

    @staticmethod
    def _compute_digest(body: Sequence[bytes] | None) -> bytes:
        if body is None:
            return REDACTED
        digest = hashlib.sha256()
        for piece in body:
            digest.update(piece)
        return b"sha-256=:%b:" % b64encode(digest.digest())

    def _build_base(
        self, request: OutgoingRequest, body: Sequence[bytes] | None, now: float, random_ids: RandomIds
    ) -> tuple[bytes | None, bytes, bytes]:
        """Return Content-Digest if there is a body, the signature base, and the parameters in its last line."""
        has_body = _has_body(request)
        digest = self._compute_digest(body) if self._digest and has_body else None
        covered = self._with_body if has_body else self._without_body
        lines = []
        for name, prefix, normalised, derive in covered.components:
            if derive is not None:
                value = derive(request)
            elif name == _CONTENT_DIGEST and digest is not None:
                value = digest
            else:
                value = b", ".join(request.values(normalised))
            lines.append(prefix + value + b"\n")
        parameters = [b"%b;created=%d" % (covered.names, now)]
        if self._expires:
            parameters.append(b";expires=%d" % (int(now) + self._expires))
        if self._nonce:
            parameters.append(b';nonce="%b"' % random_ids.nonce.hex().encode())
        parameters.append(self._parameters_suffix)
        encoded_parameters = b"".join(parameters)
        lines.append(b'"@signature-params": %b' % encoded_parameters)
        return digest, b"".join(lines), encoded_parameters


def _has_body(request: OutgoingRequest) -> bool:
    """Return True if the framing of the request announces a body. A signer does not always receive the body itself."""
    lengths = request.values(b"content-length")
    return (bool(lengths) and lengths != [b"0"]) or bool(request.values(b"transfer-encoding"))
