"""Find the operator of a bearer token (RFC 6750) or session, rate-limit actions, and confirm sensitive changes."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pydantic import Field

from sidekey.api.auth.oidc.grants import grant_in
from sidekey.api.errors import ApiProblem, ItemError, invalid
from sidekey.api.models import Body
from sidekey.snapshot.admin import PER_DAY, PER_MINUTE, PERMISSIONS, AdminRules, AdminToken, Permission, Role
from sidekey.store.records import TokenRow, digest_of
from sidekey.store.sessions import Session

CHALLENGE: Final = 'Bearer realm="sidekey"'

USE_RECORD_INTERVAL: Final = 60.0
"""Minimum seconds between two records of the last use of a token."""


@dataclass(frozen=True, slots=True)
class Operator:
    """An authenticated operator.

    `identity` is `token:ROW`, `config:NAME` or `oidc:ISSUER#SUBJECT`, and unique. For a company log-in, `name` is
    the identity, and `label` a name to show. `digest` is the SHA-256 of the token, or an HMAC of the identity
    (hexadecimal). `row` is the row ID of a stored token, else empty. `presets` are the granted IDs of a sender, None
    for other roles. `per_minute` and `per_day` limit sends, None for a viewer. `session_ends_at` is None for a request
    with a bearer token. `auth_at` is when the issuer last authenticated the person, None unless it was a company
    log-in. Times are seconds since the epoch.
    """

    name: str
    role: Role
    digest: str = field(repr=False)
    identity: str
    row: str = ""
    label: str = ""
    presets: frozenset[str] | None = None
    per_minute: int | None = None
    per_day: int | None = None
    expires_at: int | None = None
    session_ends_at: int | None = None
    auth_at: int | None = None

    def may(self, permission: Permission) -> bool:
        """Return True if the operator's role has a permission."""
        return permission in PERMISSIONS[self.role]

    def owns(self, token: str) -> bool:
        """Return True if this is the operator's token."""
        return self.auth_at is None and hmac.compare_digest(self.digest, digest_of(token))


LoginOutcome = Literal["ok", "missing", "invalid", "expired"]
"""Outcome of an authentication, and label of its metric."""


def operator_of_token(
    digest: str, configured: Mapping[str, AdminToken], stored: Mapping[str, TokenRow], now: float
) -> Operator | LoginOutcome:
    """Return the operator of the token with this SHA-256 (hexadecimal), or why there is none.

    Compare every token in constant time, so that the duration reveals nothing. A stored token cannot be used if the
    config has a token of this name: the audit could not distinguish them.
    """
    operator: Operator | None = None
    for name, token in configured.items():
        if hmac.compare_digest(token.digest.hex(), digest):
            operator = _operator(name, digest, token, f"config:{name}")
    for row in stored.values():
        if hmac.compare_digest(row.token_sha256, digest) and operator is None and row.id not in configured:
            stored_operator = _operator(row.id, digest, row, f"token:{row.row_id}")
            operator = replace(stored_operator, row=row.row_id, expires_at=row.expires_at)
    if operator is None:
        return "invalid"
    return "expired" if operator.expires_at is not None and operator.expires_at <= now else operator


def operator_of_session(
    session: Session, rules: AdminRules, stored: Mapping[str, TokenRow], now: float
) -> Operator | None:
    """Return the operator of a session, or None if its token or the rules of `admin.oidc` have changed."""
    if not session.grant_text:
        token_operator = operator_of_token(session.token_sha256, rules.tokens, stored, now)
        if not isinstance(token_operator, Operator):
            return None
        return replace(token_operator, session_ends_at=session.ends_at)
    grant = grant_in(session.grant_text, rules.oidc)
    if grant is None:
        return None
    operator = Operator(
        grant.identity,
        grant.role,
        session.token_sha256,
        grant.identity,
        label=grant.label,
        presets=grant.presets,
        session_ends_at=session.ends_at,
        auth_at=session.auth_at,
    )
    return replace(operator, per_minute=PER_MINUTE, per_day=PER_DAY) if operator.may("send") else operator


def _operator(name: str, digest: str, token: AdminToken | TokenRow, identity: str) -> Operator:
    operator = Operator(name, token.role, digest, identity)
    if not operator.may("send"):
        return operator
    granted = frozenset(token.presets) if token.role == "sender" else None
    return replace(operator, presets=granted, per_minute=token.per_minute, per_day=token.per_day)


def bearer(header: str | None) -> str | None:
    """Return the bearer token in an Authorization header, or None."""
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip(" ") or None if scheme.lower() == "bearer" else None


def unauthenticated(detail: str, error: str = "") -> ApiProblem:
    """Return 401 with the challenge of RFC 6750 3."""
    challenge = f'{CHALLENGE}, error="{error}"' if error else CHALLENGE
    return ApiProblem("unauthenticated", detail, headers={"WWW-Authenticate": challenge})


def unknown_token() -> ApiProblem:
    """Return 401 for a token that cannot be used, without the reason."""
    return unauthenticated("the token is not known, or has expired", error="invalid_token")


class RateLimiter:
    """Admits one action per key every `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._admitted: dict[str, float] = {}

    def admit(self, key: str) -> bool:
        """Return True and start a new interval for the key, or return False while the previous interval lasts."""
        now = self._clock()
        self._admitted = {recent: at for recent, at in self._admitted.items() if now - at < self._seconds}
        if key in self._admitted:
            return False
        self._admitted[key] = now
        return True


_CONFIRMATION_LIFETIME: Final = 600
"""Seconds for which a company log-in confirms changes."""


class Confirmation(Body):
    """A body that confirms the operator."""

    own_token: str = Field(
        default="",
        repr=False,
        description="The token of this request, again. Required, except in a session of a company log-in: the person "
        "must have logged in within the last ten minutes.",
        json_schema_extra={"writeOnly": True},
    )


def require_confirmation(operator: Operator, body: Confirmation) -> None:
    """Raise ApiProblem unless the body repeats the token or, for a company log-in, the person has just logged in."""
    if operator.auth_at is None:
        if "own_token" not in body.model_fields_set:
            raise invalid([ItemError("/own_token", "this key is missing")])
        if not operator.owns(body.own_token):
            raise ApiProblem("forbidden", "own_token must be the token that this request is sent with")
    elif operator.auth_at <= time.time() - _CONFIRMATION_LIFETIME:
        raise ApiProblem("login_again", "log in again first: this needs a log-in of the last ten minutes")
