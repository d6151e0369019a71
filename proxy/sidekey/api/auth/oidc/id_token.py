"""Verifies ID tokens (OpenID Connect Core 3.1.3.7).

Importing this module fails without joserfc, which is an extra.
"""

from __future__ import annotations

import hmac
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import urlsafe_b64decode

from sidekey.api.auth.oidc.errors import LoginRefused, NoRole
from sidekey.credentials.calls import json_object
from sidekey.snapshot.admin import OidcRules, Role
from sidekey.store.canonical_json import canonical

LEEWAY: Final = 60.0
"""Seconds by which the issuer's clock may differ."""

_LEAST_RSA: Final = 2048
"""Bits (RFC 7518 3.3)."""

_SUBJECT: Final = re.compile(r"[\x20-\x7e]{1,255}")


class _Registry(jws.JWSRegistry):
    """Issuers may add header parameters, and some use long ones."""

    max_header_length = 4096

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithms=[algorithm], strict_check_header=False)


def key_for(token: str, keys: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the issuer's key that a token names, or None if there is no such key or more than one."""
    name = _header(token).get("kid")
    found = [key for key in keys if _signs(key) and name in (None, key.get("kid"))]
    return found[0] if len(found) == 1 else None


def verify(token: str, key: Mapping[str, Any], rules: OidcRules, nonce: str, now: float) -> dict[str, Any]:
    """Return the claims of a valid ID token. Raises LoginRefused."""
    if "crit" in _header(token):
        raise LoginRefused("the ID token has critical header parameters that Sidekey does not know")
    # The key decides the algorithm: what the token names must be the same.
    algorithm = _signs(key)
    try:
        if algorithm == "RS256":
            rsa = RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")})
            if rsa.raw_value.key_size < _LEAST_RSA:
                raise LoginRefused("the issuer's key is too short")
            payload = jws.deserialize_compact(token, rsa, registry=_Registry("RS256")).payload
        else:
            point = ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})
            payload = jws.deserialize_compact(token, point, registry=_Registry("ES256")).payload
    except (JoseError, KeyError, TypeError, ValueError):
        # The library's texts may repeat parts of the token.
        raise LoginRefused("the signature of the ID token is not valid") from None
    claims = json_object(payload or b"")
    if claims is None:
        raise LoginRefused("the ID token contains no claims")
    _check(claims, rules, nonce, now)
    return claims


def _check(claims: Mapping[str, Any], rules: OidcRules, nonce: str, now: float) -> None:
    if claims.get("iss") != rules.issuer:
        raise LoginRefused("the ID token is from another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if rules.client_id not in audiences:
        raise LoginRefused("the ID token is for another client")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != rules.client_id:
        raise LoginRefused("the ID token was issued to another client")
    sent = claims.get("nonce")
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode("utf-8", "replace"), nonce.encode()):
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


def _signs(key: Mapping[str, Any]) -> str:
    """Return the algorithm of a key that signs ID tokens, or "" for any other key."""
    kinds = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}
    kind, curve = key.get("kty"), key.get("crv")
    algorithm = next((name for (kty, crv), name in kinds.items() if kind == kty and curve == crv), "")
    return algorithm if key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm else ""


def _header(token: str) -> dict[str, Any]:
    """Return the header of a token, of which nothing is verified yet. Raises LoginRefused."""
    try:
        header = json_object(urlsafe_b64decode(token.partition(".")[0].encode("ascii")))
    except ValueError:
        header = None
    if header is None:
        raise LoginRefused("the issuer returned no signed ID token")
    return header


PREFIX: Final = "oidc:"
"""Begins an identity. The name of an operator's token cannot contain a colon."""

_MAX_LABEL_LENGTH: Final = 100
_RANKS: Final[tuple[Role, ...]] = ("sender", "viewer", "editor", "admin")


@dataclass(frozen=True, slots=True)
class PersonGrant:
    """A person, and what the maps give them. `presets` are None unless the role is sender."""

    identity: str
    label: str
    role: Role
    presets: frozenset[str] | None

    def text(self, rules: OidcRules) -> str:
        """Serialize the grant for a session."""
        return canonical(
            {
                "identity": self.identity,
                "label": self.label,
                "presets": None if self.presets is None else sorted(self.presets),
                "role": self.role,
                "rules": rules.digest,
            }
        )


def grant_in(text: str, rules: OidcRules | None) -> PersonGrant | None:
    """Return the grant of a session, or None if `admin.oidc` has changed since. The text was authenticated."""
    members = json.loads(text)
    if rules is None or members["rules"] != rules.digest:
        return None
    presets = members["presets"]
    return PersonGrant(
        members["identity"], members["label"], members["role"], None if presets is None else frozenset(presets)
    )


def grant_by(claims: Mapping[str, Any], rules: OidcRules) -> PersonGrant:
    """Apply the maps to the claims of a verified ID token. Raises NoRole."""
    held = {rules.roles[value] for value in _values(claims, rules.roles_claim) if value in rules.roles}
    if not held:
        raise NoRole("no value of the claim in `admin.oidc.roles` has a role")
    role = max(held, key=_RANKS.index)
    presets = None
    if role == "sender":
        values = (value for value in _values(claims, rules.presets_claim) if value in rules.presets)
        presets = frozenset(name for value in values for name in rules.presets[value])
        if not presets:
            raise NoRole("no value of the claim in `admin.oidc.presets` has a preset, which a sender needs")
    label = next((text for name in ("name", "email") if (text := _label(claims.get(name)))), "")
    return PersonGrant(f"{PREFIX}{rules.issuer}#{claims['sub']}", label, role, presets)


def _values(claims: Mapping[str, Any], name: str) -> Iterator[str]:
    value = claims.get(name)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item


def _label(value: object) -> str:
    """Return a name to show. Without control and formatting characters, it cannot reorder the text beside it."""
    if not isinstance(value, str):
        return ""
    shown = (char for char in value if unicodedata.category(char)[0] != "C" and char not in "\u2028\u2029")
    return "".join(shown).strip()[:_MAX_LABEL_LENGTH]
