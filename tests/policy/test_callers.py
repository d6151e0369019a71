"""Permissions of callers, and the look-up by token."""

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
def test_caller_without_a_list_may_use_everything_and_lists_nothing(
    granted: frozenset[str] | None, may_use: bool, lists: bool
) -> None:
    caller = Caller("c", granted, granted)
    assert (caller.may_use("crm"), caller.may_send("crm"), caller.lists("crm")) == (may_use, may_use, lists)


def test_token_finds_only_its_caller() -> None:
    caller = Caller("c", None)
    callers = {hashlib.sha256(b"token").digest(): caller}
    assert find_caller(callers, b"token") is caller
    assert [find_caller(callers, token) for token in (b"", b"Token", b"token ", *callers)] == [None] * 4
