"""Verify signed JSON Web Tokens with RS256 and ES256 (RFC 7515, RFC 7519, RFC 8725).

The import of this module fails without joserfc, which the extras `jwt` and `oidc` install. Errors contain no part of a
token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import urlsafe_b64decode

from sidekey.credentials.calls import parse_json_object
from sidekey.credentials.jws_algorithms import algorithm_of

Keys = tuple[Mapping[str, Any], ...]
"""Public keys of an issuer (JWK, RFC 7517)."""

MAX_KEYS: Final = 8
"""Maximum number of keys to try for a token, since anybody can send one."""

LEEWAY: Final = 60.0
"""Maximum difference of the issuer's clock, in seconds."""

_MIN_RSA_SIZE: Final = 2048
"""Bits (RFC 7518 3.3)."""


class _Registry(jws.JWSRegistry):
    """Accepts extra and long header parameters, which some issuers use."""

    max_header_length = 4096

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)


_REGISTRIES: Final = {name: _Registry(name) for name in ("RS256", "ES256")}


def parse_part(token: str, index: int) -> dict[str, Any] | None:
    """Return the header (0) or the claims (1) of a token without verification, or None if it is not a JSON object."""
    try:
        return parse_json_object(urlsafe_b64decode(token.split(".")[index].encode("ascii")))
    except (ValueError, IndexError):
        return None


def find_keys(header: Mapping[str, Any], keys: Iterable[Mapping[str, Any]]) -> Keys:
    """Return the keys that may have signed a token, at most MAX_KEYS: those with its `kid`, or without `kid` all.

    Of several keys, only those for the token's algorithm can be meant.
    """
    name, algorithm = header.get("kid"), header.get("alg")
    matches = [key for key in keys if algorithm_of(key) and name in (None, key.get("kid"))]
    if len(matches) > 1:
        matches = [key for key in matches if algorithm_of(key) == algorithm]
    return tuple(matches[:MAX_KEYS])


def verify_signature(token: str, header: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """Return the claims of a token that one of the keys has signed. Raises ValueError with the reason.

    The key determines the algorithm, which the token must name too (RFC 8725 3.1).
    """
    if "crit" in header:
        raise ValueError("has critical header parameters that Sidekey does not know")
    for key in keys:
        payload = _verify_with(token, key)
        if payload is not None:
            break
    else:
        if len(keys) > 1 and header.get("kid") is None:
            raise ValueError(
                f"has no `kid`, and none of the {len(keys)} keys of its issuer that Sidekey has tried verifies it: "
                "let the issuer set `kid`"
            )
        raise ValueError("has no valid RS256 or ES256 signature")
    claims = parse_json_object(payload)
    if claims is None:
        raise ValueError("contains no claims")
    return claims


def _verify_with(token: str, key: Mapping[str, Any]) -> bytes | None:
    """Return the payload of a token, or None if the key has not signed it. Raises ValueError for a short key."""
    algorithm = algorithm_of(key)
    try:
        public: RSAKey | ECKey
        if algorithm == "RS256":
            public = RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
            is_short = public.raw_value.key_size < _MIN_RSA_SIZE
        else:
            public = ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
            is_short = False
        payload = jws.deserialize_compact(token, public, registry=_REGISTRIES[algorithm]).payload or b""
    except (JoseError, KeyError, TypeError, ValueError):
        # The messages of the library may repeat parts of the token.
        return None
    if is_short:
        raise ValueError("is signed with a key that is too short")
    return payload


def check_times(claims: Mapping[str, Any], now: float, *, required: Iterable[str], leeway: float = LEEWAY) -> float:
    """Check `exp`, and the times at which the token begins. Return `exp`. Raises ValueError with the reason.

    `required` are the names of times, beside `exp`, that must be there. `leeway` applies to `exp`.
    """
    expires = _time(claims, "exp")
    if expires <= now - leeway:
        raise ValueError("has expired: get a new one, or compare the clocks of Sidekey and the issuer")
    for name in ("iat", "nbf", "auth_time"):
        if (name in required or name in claims) and _time(claims, name) > now + LEEWAY:
            raise ValueError("is from the future: compare the clocks of Sidekey and the issuer")
    return expires


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # JSON's true is a number in Python, and NaN would pass every comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise ValueError(f"has no valid time in `{name}`")
    return value
