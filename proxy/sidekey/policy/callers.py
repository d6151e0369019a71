"""Callers, their permissions to use integrations and presets, and what identifies them: tokens, certificates, JWTs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from sidekey.errors import Denial
from sidekey.policy.identifiers import InvalidIdentifiers


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """A client that may use these `integrations` and `presets`, by ID. None means all of them."""

    name: str
    integrations: frozenset[str] | None
    presets: frozenset[str] | None = frozenset()

    def __repr__(self) -> str:
        return f"Caller({self.name})"

    def may_use(self, integration: str) -> bool:
        """Return True if the caller may use this integration."""
        return self.integrations is None or integration in self.integrations

    def lists(self, integration: str) -> bool:
        """Return True if the caller's permissions name this integration. Unlike `may_use`, False for "all of them"."""
        return self.integrations is not None and integration in self.integrations

    def may_send(self, preset: str) -> bool:
        """Return True if the caller may use this preset. It needs no permission for the preset's integration."""
        return self.presets is None or preset in self.presets


def certificate_key(san: str) -> bytes:
    """Return the key of a caller that a certificate identifies. `san` is `spiffe://...` or `dns:NAME`, in lower case.

    The keys of tokens are SHA-256 digests, which nobody can choose so that they equal another key.
    """
    return f"certificate {san}".encode()


def jwt_key(issuer: str, subject: str) -> bytes:
    """Return the key of a caller that a JWT identifies. `issuer` is the name in `jwt_issuers`."""
    return f"jwt {issuer} {subject}".encode()


def key_kind(key: bytes) -> str:
    """Return the key of a caller's settings that this key comes from."""
    # Not by the length: names may have that of a digest. One of 2**32 digests begins with `jwt `, for a log line only.
    kind, separator, _ = key.partition(b" ")
    return kind.decode() if separator and kind in (b"certificate", b"jwt") else "token"


class Unidentified:
    """Why the credentials of a request identify no caller.

    `retry_after` is the number of seconds after which the same credentials may work, or 0 if they never will.
    """

    __slots__ = ("denial", "detail", "retry_after")

    def __init__(self, denial: Denial, detail: str = "", retry_after: int = 0) -> None:
        self.denial: Final = denial
        self.detail: Final = detail
        self.retry_after: Final = retry_after


_TOKEN_MISSING: Final = Unidentified("token_missing")
_CERTIFICATE_UNKNOWN: Final = Unidentified(
    "certificate_unknown", "no caller has a name of the client certificate, and the request has no token"
)


class JwtVerifier(Protocol):
    """Verifies JWTs of the configured issuers. Digests are the SHA-256 of the token."""

    def find(self, digest: bytes) -> bytes | None:
        """Return the caller's key of a JWT that was verified before and is still valid, else None."""
        ...

    def verify(self, token: bytes, digest: bytes) -> bytes | Unidentified:
        """Verify a JWT and return the caller's key, or why it is refused."""
        ...


class Callers:
    """The callers by key, as one connection may use them. `jwts` is None if the config has no issuers.

    If the connection has a certificate, `_certificate` has the keys of callers in it, and `_certified` the callers that
    it identifies. `refused` is set if nothing on this connection counts any more, because the certificate that it began
    with is no longer valid.
    """

    __slots__ = ("_by_key", "_certificate", "_certified", "_jwts", "_refused", "has_certificate")

    def __init__(
        self,
        by_key: Mapping[bytes, Caller],
        jwts: JwtVerifier | None = None,
        certificate: Iterable[bytes] | None = None,
        refused: Unidentified | None = None,
    ) -> None:
        self._by_key: Final = by_key
        self._jwts: Final = jwts
        self.has_certificate: Final = certificate is not None
        self._certificate: Final = [key for key in certificate or () if key in by_key]
        self._certified: Final = list(dict.fromkeys([by_key[key] for key in self._certificate]))
        self._refused: Final = refused

    def on_connection(self, certificate: Iterable[bytes], refused: Unidentified | None) -> Callers:
        """Return the callers for a connection whose certificate has these keys."""
        return Callers(self._by_key, self._jwts, certificate, refused)

    def find(self, token: bytes) -> Caller | None:
        """Find the caller by a token or a JWT that was verified before, or by the certificate if there is no token.

        None means that `authenticate` must decide. The time depends on the digest of the token only, which reveals
        nothing that helps to guess it.
        """
        caller: Caller | None = None
        if token:
            digest = hashlib.sha256(token).digest()
            caller = self._by_key.get(digest)
            if caller is None and self._jwts is not None:
                key = self._jwts.find(digest)
                caller = None if key is None else self._by_key.get(key)
        if not self.has_certificate:
            return caller
        if self._refused is not None or len(self._certified) > 1:
            return None
        if not self._certified:
            return caller
        certified = self._certified[0]
        return certified if not token or caller is certified else None

    def authenticate(self, token: bytes | None) -> Caller | Unidentified:
        """Find the caller by all credentials of a request. Raises InvalidIdentifiers if they identify several.

        A token must be valid, even if a certificate identifies the caller.
        """
        if self._refused is not None:
            return self._refused
        callers = list(self._certified)
        if token:
            by_token = self._find_by_token(token)
            if isinstance(by_token, Unidentified):
                return by_token
            if by_token not in callers:
                callers.append(by_token)
        if len(callers) > 1:
            raise InvalidIdentifiers("the token and the names of the client certificate must not identify two callers")
        if callers:
            return callers[0]
        return _CERTIFICATE_UNKNOWN if self.has_certificate else _TOKEN_MISSING

    def keys(self, token: bytes | None) -> frozenset[bytes]:
        """Return the keys by which the credentials of an authenticated request identify its caller."""
        keys = set(self._certificate)
        if token:
            digest = hashlib.sha256(token).digest()
            if digest in self._by_key:
                keys.add(digest)
            elif self._jwts is not None:
                key = self._jwts.find(digest) or self._jwts.verify(token, digest)
                if not isinstance(key, Unidentified):
                    keys.add(key)
        return frozenset(keys)

    def _find_by_token(self, token: bytes) -> Caller | Unidentified:
        digest = hashlib.sha256(token).digest()
        caller = self._by_key.get(digest)
        if caller is not None:
            return caller
        # A compact JWS has three parts (RFC 7515 7.1), and its header is a JSON object.
        if self._jwts is None or not token.startswith(b"ey") or token.count(b".") != 2:
            return Unidentified("token_unknown")
        key = self._jwts.verify(token, digest)
        if isinstance(key, Unidentified):
            return key
        return self._by_key.get(key) or Unidentified(
            "token_unknown", "no caller has the issuer and subject of this JWT"
        )
