"""api/auth/operators.py: operators of tokens, and the rate limiter."""

from __future__ import annotations

import hashlib

from sidekey.api.auth.operators import Operator, RateLimiter, operator_of_token
from sidekey.snapshot.admin import AdminToken
from sidekey.store.records import TokenRow, digest_of

OPS = {"ops": AdminToken(hashlib.sha256(b"of-the-config").digest(), "admin")}


def test_digest_of_a_token_identifies_its_operator() -> None:
    def find(token: str, expires_at: int | None = None) -> tuple[str, str, str] | str:
        row = TokenRow(row="r1", id="ann", role="editor", token_sha256=digest_of("stored"), expires_at=expires_at)
        operator = operator_of_token(digest_of(token), OPS, {"ann": row}, 100.0)
        if not isinstance(operator, Operator):
            return operator
        assert operator.owns(token)
        assert not operator.owns("another")
        return operator.name, operator.role, operator.row

    assert find("of-the-config") == ("ops", "admin", "")
    assert find("stored") == find("stored", 101) == ("ann", "editor", "r1")
    assert (find("stored", 100), find("unknown")) == ("expired", "invalid")


def test_rate_limit_is_for_each_key() -> None:
    """Old entries are dropped."""
    now = 0.0
    paces = RateLimiter(1.0, clock=lambda: now)
    assert [paces.admit("a"), paces.admit("a"), paces.admit("b")] == [True, False, True]
    now = 1.0
    assert paces.admit("a")
