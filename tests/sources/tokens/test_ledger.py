"""sources/tokens/ledger.py: what is shared shows no secret, and a process that must not ask has no turn."""

from __future__ import annotations

import pickle

import pytest

from sidekey.credentials.base import Grant
from sidekey.sources.tokens.ledger import Chain, Closed, Left, SharedToken, Unavailable

CHAIN = Chain("file:crm", "canary")
TOKEN = SharedToken("n1", "canary", "canary", Grant((("Authorization", "canary"),)), 1.0, 2.0)


@pytest.mark.parametrize("secret", [CHAIN, TOKEN, Left("canary", TOKEN)], ids=["chain", "token", "left"])
def test_what_is_shared_shows_no_secret(secret: object) -> None:
    assert "canary" not in repr(secret)


@pytest.mark.parametrize("secret", [TOKEN, Left("canary", TOKEN)], ids=["token", "left"])
def test_what_is_shared_is_not_pickled(secret: object) -> None:
    with pytest.raises(TypeError, match="holds secrets"):
        pickle.dumps(secret)


@pytest.mark.parametrize("rotates", [False, True])
async def test_a_process_that_must_not_ask_has_no_turn(rotates: bool) -> None:
    with pytest.raises(Unavailable, match="ask another"):
        await Closed("ask another").take(CHAIN, rotates=rotates)
