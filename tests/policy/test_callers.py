"""policy/callers.py: permissions of callers, and how their tokens find them."""

from __future__ import annotations

import hashlib

import pytest

from sidekey.policy.callers import Caller, find_caller


@pytest.mark.parametrize(
    ("granted", "may_use", "lists"),
    [
        (None, True, False),
        (frozenset({"crm"}), True, True),
        (frozenset({"sms"}), False, False),
        (frozenset(), False, False),
    ],
)
def test_none_permits_all_and_lists_nothing(granted: frozenset[str] | None, may_use: bool, lists: bool) -> None:
    caller = Caller("c", granted, granted)
    assert (caller.may_use("crm"), caller.may_send("crm"), caller.lists("crm")) == (may_use, may_use, lists)


def test_token_finds_its_caller_alone() -> None:
    caller = Caller("c", None)
    callers = {hashlib.sha256(b"token").digest(): caller}
    assert find_caller(callers, b"token") is caller
    assert [find_caller(callers, token) for token in (b"", b"Token", b"token ", *callers)] == [None] * 4
