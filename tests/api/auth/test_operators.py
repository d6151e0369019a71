"""api/auth/operators.py: tokens of the config and of the store, and how often something may be done by one."""

from __future__ import annotations

import hashlib

from sidekey.api.auth.operators import Operator, RateLimiter, operator_of
from sidekey.snapshot.admin import AdminToken
from sidekey.store.records import TokenRow, digest_of

OPS = {"ops": AdminToken(hashlib.sha256(b"of-the-config").digest(), "admin")}


def test_operator_of_a_token_is_found_by_its_digest() -> None:
    def find(token: str, expires_at: int | None = None) -> tuple[str, str, str] | str:
        row = TokenRow(row="r1", id="ann", role="editor", token_sha256=digest_of("stored"), expires_at=expires_at)
        found = operator_of(digest_of(token), OPS, {"ann": row}, 100.0)
        if not isinstance(found, Operator):
            return found
        assert found.owns(token)
        assert not found.owns("another")
        return found.name, found.role, found.row

    assert find("of-the-config") == ("ops", "admin", "")
    assert find("stored") == find("stored", 101) == ("ann", "editor", "r1")
    assert (find("stored", 100), find("unknown")) == ("expired", "invalid")


def test_a_pace_is_each_tokens_own() -> None:
    """And what is long ago is not kept."""
    now = 0.0
    paces = RateLimiter(1.0, clock=lambda: now)
    assert [paces.admit("a"), paces.admit("a"), paces.admit("b")] == [True, False, True]
    now = 1.0
    assert paces.admit("a")
