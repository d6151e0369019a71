"""admin/console/sessions.py: who is known by a cookie, also while the store is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.api.test_service import serviced
from sidekey.admin.console.sessions import LIFE, Sessions
from sidekey.store.errors import StoreUnavailable
from support.api import TOKENS


async def test_a_token_that_counts_begins_a_session_and_no_other_does(tmp_path: Path) -> None:
    """Counted both; the secret is another each time, and says nothing of the token."""
    async with serviced(tmp_path) as (service, _):
        sessions = Sessions(service)
        assert await sessions.log_in("sidekey_wrong", "here") is None
        first, second = [await sessions.log_in(TOKENS["editor"], "here") for _ in range(2)]
        assert first is not None
        assert first != second
        assert TOKENS["editor"] not in first
        visitor = await sessions.visitor(first)
        assert visitor is not None
        assert (visitor.operator.role, visitor.reachable) == ("editor", True)
        assert await sessions.visitor("other") is None
        assert dict(service.metrics.admin_logins) == {"invalid": 1, "ok": 2}
        assert 3600 <= LIFE <= 24 * 3600


async def test_who_was_seen_is_known_while_the_store_is_away(tmp_path: Path) -> None:
    """Nobody else is, nobody logs in, and nobody is logged out unnoticed."""
    async with serviced(tmp_path) as (service, _):
        sessions = Sessions(service)
        seen = await sessions.log_in(TOKENS["viewer"], "here")
        unseen = await Sessions(service).log_in(TOKENS["viewer"], "here")
        assert seen is not None
        assert unseen is not None
        (tmp_path / "store.db").rename(tmp_path / "elsewhere.db")
        visitor = await sessions.visitor(seen)
        assert visitor is not None
        assert not visitor.reachable
        assert await sessions.visitor(unseen) is None
        for work in (sessions.log_in(TOKENS["viewer"], "here"), sessions.log_out(seen)):
            with pytest.raises(StoreUnavailable):
                await work
        (tmp_path / "elsewhere.db").rename(tmp_path / "store.db")
        await sessions.log_out(seen)
        assert await sessions.visitor(seen) is None
