"""admin/api/operators.py: tokens of the config and of the store, and how often something may be done by one."""

from __future__ import annotations

import hashlib
from collections import Counter

from sidekey.admin.api.operators import Login, Paces, authenticate
from sidekey.admin.api.problems import ApiProblem
from sidekey.runtime.admin_rules import AdminToken, Role
from sidekey.store.records import TokenRow
from sidekey.store.tokens import digest_of

OPS = {"ops": AdminToken(hashlib.sha256(b"of-the-config").digest(), "admin")}


def row(token: str, role: Role = "editor", expires_at: int | None = None) -> dict[str, TokenRow]:
    return {"ann": TokenRow(row="r1", id="ann", role=role, token_sha256=digest_of(token), expires_at=expires_at)}


def test_a_token_is_its_operators_and_nobody_elses() -> None:
    """By its SHA-256; what does not count is told in the same words, and counted apart."""
    counted: Counter[Login] = Counter()

    def ask(header: str | None, expires_at: int | None = None) -> str:
        stored = row("of-the-store", expires_at=expires_at)
        try:
            found = authenticate(header, OPS, stored, 100.0, lambda outcome: counted.update([outcome]))
        except ApiProblem as problem:
            return problem.detail
        assert found.owns(str(header).partition(" ")[2])
        assert not found.owns("another")
        return f"{found.name} {found.role} {found.row}"

    assert ask("Bearer of-the-config") == "ops admin "
    assert ask("bearer of-the-store") == "ann editor r1"
    assert ask("Bearer of-the-store", 101) == "ann editor r1"
    assert ask("Bearer of-the-store", 100) == ask("Bearer unknown") == "the token is not known, or has expired"
    assert "Bearer" in ask(None)
    assert counted == {"ok": 3, "expired": 1, "invalid": 1, "missing": 1}


def test_a_pace_is_each_tokens_own() -> None:
    """And what is long ago is not kept."""
    now = 0.0
    paces = Paces(1.0, clock=lambda: now)
    assert [paces.admit("a"), paces.admit("a"), paces.admit("b")] == [True, False, True]
    now = 1.0
    assert paces.admit("a")
