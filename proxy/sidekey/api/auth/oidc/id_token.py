"""Verify ID tokens (OpenID Connect Core 3.1.3.7).

Importing this module fails without joserfc, which is an extra.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sidekey.api.auth.oidc.errors import LoginRefused
from sidekey.credentials.jws import Keys, check_times, find_keys, parse_part, verify_signature
from sidekey.snapshot.admin import OidcRules

_SUBJECT: Final = re.compile(r"[\x20-\x7e]{1,255}")


def keys_for(token: str, keys: Iterable[Mapping[str, Any]]) -> Keys:
    """Return the issuer's keys that may have signed a token."""
    return find_keys(_header(token), keys)


def verify(token: str, keys: Keys, rules: OidcRules, nonce: str, now: float) -> dict[str, Any]:
    """Return the claims of a valid ID token. Raises LoginRefused."""
    try:
        claims = verify_signature(token, _header(token), keys)
        _check_claims(claims, rules, nonce)
        check_times(claims, now, required=("iat",))
    except ValueError as error:
        raise LoginRefused(f"the ID token {error}") from None
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise LoginRefused("the ID token has no subject of 1 to 255 printable ASCII characters")
    return claims


def _check_claims(claims: Mapping[str, Any], rules: OidcRules, nonce: str) -> None:
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


def _header(token: str) -> dict[str, Any]:
    """Parse the header of a token without verification. Raises LoginRefused."""
    header = parse_part(token, 0)
    if header is None:
        raise LoginRefused("the issuer returned no signed ID token")
    return header
