"""Who sends a request to the admin listener: by bearer tokens (RFC 6750), of the config and of the store."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from pydantic import Field

from sidekey.api.auth.oidc.id_token import grant_in
from sidekey.api.errors import ApiProblem, ItemError, invalid
from sidekey.api.models import Body
from sidekey.snapshot.admin import PER_DAY, PER_MINUTE, PERMISSIONS, AdminRules, AdminToken, Permission, Role
from sidekey.store.records import TokenRow, digest_of
from sidekey.store.sessions import Session

CHALLENGE: Final = 'Bearer realm="sidekey"'

NOTE_EVERY: Final = 60.0
"""Seconds between two notes of the use of one token."""


@dataclass(frozen=True, slots=True)
class Operator:
    """An authenticated operator.

    `identity` is `token:ROW`, `config:NAME` or `oidc:ISSUER#SUBJECT`, and never changes hands; for a company log-in,
    `name` is the same. `label` is a name for people, if it differs. `digest` is the SHA-256 of the token, or an HMAC of
    the identity, in hexadecimal. `row` is the ID of a stored token's row, empty for others. `presets` are the IDs that
    a sender was granted, None for other roles. `per_minute` and `per_day` limit sends, None for a viewer. `expires_at`
    and `session_ends_at` are in seconds since the epoch, and so is `auth_at`: when a person last proved to the issuer
    who they are, None for a token.
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


Login = Literal["ok", "missing", "invalid", "expired"]
"""How an authentication ends; the metric's label."""


def operator_of(
    digest: str, configured: Mapping[str, AdminToken], stored: Mapping[str, TokenRow], now: float
) -> Operator | Login:
    """The operator whose token has this SHA-256, in hexadecimal, or why there is none.

    Every token is compared, in constant time: how long it takes says nothing about them. Where the config has a name,
    the stored token of that name does not count: the audit would not tell the two apart.
    """
    found: Operator | None = None
    for name, each in configured.items():
        if hmac.compare_digest(each.digest.hex(), digest):
            found = _operator(name, digest, each, f"config:{name}")
    for row in stored.values():
        if hmac.compare_digest(row.token_sha256, digest) and found is None and row.id not in configured:
            operator = _operator(row.id, digest, row, f"token:{row.row}")
            found = replace(operator, row=row.row, expires_at=row.expires_at)
    if found is None:
        return "invalid"
    return "expired" if found.expires_at is not None and found.expires_at <= now else found


def operator_of_session(
    session: Session, rules: AdminRules, stored: Mapping[str, TokenRow], now: float
) -> Operator | None:
    """Return the operator of a session, or None if the token or the rules that it depends on have changed."""
    if not session.grant_text:
        found = operator_of(session.token_sha256, rules.tokens, stored, now)
        return replace(found, session_ends_at=session.ends_at) if isinstance(found, Operator) else None
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
    """The token in an Authorization field; None where there is none."""
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip(" ") or None if scheme.lower() == "bearer" else None


def unauthenticated(detail: str, error: str = "") -> ApiProblem:
    """The 401, with the challenge of RFC 6750 3."""
    challenge = f'{CHALLENGE}, error="{error}"' if error else CHALLENGE
    return ApiProblem("unauthenticated", detail, headers={"WWW-Authenticate": challenge})


def unknown_token() -> ApiProblem:
    """Return the 401 of every token that cannot be used, so that nobody learns why."""
    return unauthenticated("the token is not known, or has expired", error="invalid_token")


class RateLimiter:
    """How often each token may do something: once in `seconds`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._admitted: dict[str, float] = {}

    def admit(self, digest: str) -> bool:
        """Whether it may now; that counts, then."""
        now = self._clock()
        self._admitted = {key: at for key, at in self._admitted.items() if now - at < self._seconds}
        if digest in self._admitted:
            return False
        self._admitted[digest] = now
        return True


_FRESH: Final = 600
"""Seconds after a company log-in in which it confirms a change."""


class Confirmation(Body):
    """A body that confirms the operator."""

    own_token: str = Field(
        default="",
        repr=False,
        description="The token of this request, again. Required, except in a session of a company log-in: the person "
        "must have logged in within the last ten minutes.",
        json_schema_extra={"writeOnly": True},
    )


def require_confirmation(operator: Operator, sent: Confirmation) -> None:
    """Raise ApiProblem unless the operator has just proved who they are."""
    if operator.auth_at is None:
        if "own_token" not in sent.model_fields_set:
            raise invalid([ItemError("/own_token", "this key is missing")])
        if not operator.owns(sent.own_token):
            raise ApiProblem("forbidden", "own_token must be the token that this request is sent with")
    elif operator.auth_at <= time.time() - _FRESH:
        raise ApiProblem("login_again", "log in again first: this needs a log-in of the last ten minutes")
