"""Issuers of the JWTs that identify callers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidekey.credentials.jws_algorithms import algorithm_of
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.snapshot.egress import Egress

JwtKeys = tuple[Mapping[str, Any], ...]
"""The public keys of an issuer (JWK, RFC 7517)."""

_MEMBERS = {"RS256": ("n", "e"), "ES256": ("crv", "x", "y")}
"""The members of the keys for each algorithm (RFC 7518 6)."""

_MIN_MODULUS = 342
"""Characters of the base64url of 2048 bits (RFC 7518 3.3)."""


def usable_keys(keys: object) -> JwtKeys:
    """Return the public keys of a JWKS that can verify RS256 or ES256, without other keys and private members."""
    found = []
    for key in keys if isinstance(keys, list) else []:
        members = _MEMBERS.get(algorithm_of(key), ()) if isinstance(key, dict) else ()
        is_complete = bool(members) and all(isinstance(key.get(name), str) for name in members)
        if is_complete and ("n" not in members or len(key["n"]) >= _MIN_MODULUS):
            found.append({name: key[name] for name in ("kty", "kid", "use", "alg", *members) if name in key})
    return tuple(found)


@dataclass(frozen=True, slots=True, repr=False)
class JwtIssuer(SecretHolder):
    """An issuer and the audience that its JWTs must have.

    `keys` come from a file, or are None if Sidekey fetches them: from `jwks_url`, or from the URL in the issuer's
    discovery document if that is empty. The request has the bearer token `token`, if any. With a `problem`, a value of
    the issuer cannot be read, and its JWTs are refused.
    """

    name: str
    issuer: str
    audience: str
    keys: JwtKeys | None = None
    jwks_url: str = ""
    egress: Egress = field(default_factory=Egress)
    token: str = field(default="", compare=False)
    problem: str = ""

    def __repr__(self) -> str:
        return f"JwtIssuer({self.issuer})"
