"""The counts of tokens: what was requested, what was served, what had expired."""

from __future__ import annotations

import pytest

from benchmarks.tokens import Client, Ledger, most_within


@pytest.fixture
def ledger() -> Ledger:
    """Two clients: tokens of 2 s, and one whose tokens the upstream refuses."""
    return Ledger({"short": Client(2), "storm": Client(3600, refused=True)})


@pytest.mark.parametrize(
    ("now", "served"),
    [
        pytest.param(100.0, True, id="new"),
        pytest.param(101.999, True, id="just before its end"),
        pytest.param(102.0, False, id="at its end"),
    ],
)
def test_a_token_is_checked_by_the_expiry_it_holds(ledger: Ledger, now: float, served: bool) -> None:
    """Both kinds are counted apart."""
    token = ledger.issue("short", 100.0)
    assert ledger.check([f"Bearer {token}"], now) is served
    account = ledger.accounts["short"]
    assert (account.good, account.expired) == (int(served), int(not served))


def test_a_refused_token_counts_as_good(ledger: Ledger) -> None:
    """Only the response is another."""
    assert ledger.check([f"Bearer {ledger.issue('storm', 0.0)}"], 1.0) is False
    assert (ledger.accounts["storm"].good, ledger.accounts["storm"].expired) == (1, 0)


def test_no_two_tokens_are_equal(ledger: Ledger) -> None:
    """A renewal within the clock's resolution is a renewal."""
    assert ledger.issue("short", 5.0) != ledger.issue("short", 5.0)


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param([], id="none"),
        pytest.param(["Bearer short~1~9.0", "Bearer short~1~9.0"], id="two"),
        pytest.param(["Basic short~1~9.0"], id="another scheme"),
        pytest.param(["Bearer other~1~9.0"], id="an unknown client"),
        pytest.param(["Bearer short"], id="no expiry"),
        pytest.param(["Bearer short~1~soon"], id="an expiry that is not a number"),
    ],
)
def test_anything_but_one_token_of_a_client_is_an_error(ledger: Ledger, authorization: list[str]) -> None:
    """It is a defect of the program under test, and is not counted."""
    with pytest.raises(ValueError):
        ledger.check(authorization, 1.0)
    assert all(account.good == account.expired == 0 for account in ledger.accounts.values())


@pytest.mark.parametrize(
    ("moments", "most"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([7.0], 1, id="one"),
        pytest.param([0.0, 60.0, 120.0], 1, id="exactly a window apart"),
        pytest.param([0.0, 59.9, 120.0], 2, id="two within one window"),
        pytest.param([0.0, 50.0, 70.0, 100.0, 200.0], 3, id="the fullest window begins in the middle"),
    ],
)
def test_the_fullest_window_is_found_wherever_it_begins(moments: list[float], most: int) -> None:
    """Windows do not start at the minutes of a clock."""
    assert most_within(moments, 60.0) == most
