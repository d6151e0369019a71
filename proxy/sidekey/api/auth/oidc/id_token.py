"""Verify ID tokens (OpenID Connect Core 3.1.3.7).

Importing this module fails without joserfc, which is an extra.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import urlsafe_b64decode

from sidekey.api.auth.oidc.errors import LoginRefused
from sidekey.credentials.calls import parse_json_object
from sidekey.snapshot.admin import OidcRules

LEEWAY: Final = 60.0
"""Maximum difference of the issuer's clock, in seconds."""

_MIN_RSA_SIZE: Final = 2048
"""Bits (RFC 7518 3.3)."""

_SUBJECT: Final = re.compile(r"[\x20-\x7e]{1,255}")


class _Registry(jws.JWSRegistry):
    """Accepts extra and long header parameters, which some issuers use."""

    max_header_length = 4096

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)


def key_for(token: str, keys: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the issuer's key that a token names, or None if no key or several keys match."""
    name = _header(token).get("kid")
    matches = [key for key in keys if _algorithm_of(key) and name in (None, key.get("kid"))]
    return matches[0] if len(matches) == 1 else None


def verify(token: str, key: Mapping[str, Any], rules: OidcRules, nonce: str, now: float) -> dict[str, Any]:
    """Return the claims of a valid ID token. Raises LoginRefused."""
    if "crit" in _header(token):
        raise LoginRefused("the ID token has critical header parameters that Sidekey does not know")
    # The key determines the algorithm, which the token must name too.
    algorithm = _algorithm_of(key)
    try:
        if algorithm == "RS256":
            rsa = RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
            if rsa.raw_value.key_size < _MIN_RSA_SIZE:
                raise LoginRefused("the issuer's key is too short")
            payload = jws.deserialize_compact(token, rsa, registry=_Registry("RS256")).payload
        else:
            point = ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
            payload = jws.deserialize_compact(token, point, registry=_Registry("ES256")).payload
    except (JoseError, KeyError, TypeError, ValueError):
        # The messages of the library may repeat parts of the token.
        raise LoginRefused("the signature of the ID token is not valid") from None
    claims = parse_json_object(payload or b"")
    if claims is None:
        raise LoginRefused("the ID token contains no claims")
    _check_claims(claims, rules, nonce, now)
    return claims


def _check_claims(claims: Mapping[str, Any], rules: OidcRules, nonce: str, now: float) -> None:
    if claims.get("iss") != rules.issuer:
        raise LoginRefused("the ID token is from another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if rules.client_id not in audiences:
        raise LoginRefused("the ID token is for another client")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != rules.client_id:
        raise LoginRefused("the ID token was issued to another client")
    claim = claims.get("nonce")
    if not isinstance(claim, str) or not hmac.compare_digest(claim.encode("utf-8", "replace"), nonce.encode()):
        raise LoginRefused("the ID token belongs to another log-in")
    if _time(claims, "exp") <= now - LEEWAY:
        raise LoginRefused("the ID token has expired: compare the clocks of Sidekey and the issuer")
    if any(
        _time(claims, name) > now + LEEWAY for name in ("iat", "nbf", "auth_time") if name == "iat" or name in claims
    ):
        raise LoginRefused("the ID token is from the future: compare the clocks of Sidekey and the issuer")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise LoginRefused("the ID token has no subject of 1 to 255 printable ASCII characters")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    # JSON's true is a number in Python, and NaN would pass every comparison.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise LoginRefused(f"the ID token has no valid time in `{name}`")
    return value


def _algorithm_of(key: Mapping[str, Any]) -> str:
    """Return the algorithm of a signing key, or an empty string for any other key."""
    kinds = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}
    kind, curve = key.get("kty"), key.get("crv")
    algorithm = next((name for (kty, crv), name in kinds.items() if kind == kty and curve == crv), "")
    return algorithm if key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm else ""


def _header(token: str) -> dict[str, Any]:
    """Parse the header of a token without verification. Raises LoginRefused."""
    try:
        header = parse_json_object(urlsafe_b64decode(token.partition(".")[0].encode("ascii")))
    except ValueError:
        header = None
    if header is None:
        raise LoginRefused("the issuer returned no signed ID token")
    return header
