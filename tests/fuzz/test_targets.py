"""The fuzz targets without a fuzzer: their seeds, requests cut in two, and the checks themselves."""

from __future__ import annotations

import time

import pytest

from fuzz import requests
from fuzz.requests import Outcome, Read, converse
from fuzz.target import BUDGET, NAMES, Target, cost_of, load

MALFORMED = b"GET /i/h/1  HTTP/1.1\r\nHost: h.test\r\n\r\n"


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_parsed_correctly_within_the_budget(name: str) -> None:
    target = load(name)
    for seed in target.seeds:
        target.check(seed)
        assert cost_of(target, seed) <= BUDGET, seed


@pytest.mark.parametrize("seed", requests.SEEDS, ids=range(len(requests.SEEDS)))
def test_request_in_two_reads_equals_one_read(seed: bytes) -> None:
    whole = converse(seed)
    for at in range(1, len(seed)):
        assert requests.agree(whole, converse(seed[:at], seed[at:])), at


def test_requests_are_compared_with_h11() -> None:
    """Also those that h11 refuses."""
    received = Read(b"GET", b"/api/1", ((b"x", b"1"),), b"")
    expected = Read(b"GET", b"/i/h/1", ((b"accept", b"*/*"), (b"x", b"1")), b"")
    outcome = Outcome(((204, True),), (received,))
    requests.compare(outcome, [expected])
    others = (
        Read(b"POST", b"/i/h/1", expected.fields, b""),
        Read(b"GET", b"/i/h/2", expected.fields, b""),
        Read(b"GET", b"/i/h/1", ((b"x", b"2"),), b""),
        Read(b"GET", b"/i/h/1", expected.fields, b"a"),
    )
    for other in others:
        with pytest.raises(AssertionError):
            requests.compare(outcome, [other])
    with pytest.raises(AssertionError, match="h11 refuses request 0"):
        requests.compare(outcome, [])
    assert requests.read_by_h11(MALFORMED) == []


def test_a_difference_between_reads_counts_until_sidekey_refuses() -> None:
    served = Read(b"GET", b"/api/1", (), b"")
    both = Outcome(((204, True), (204, True)), (served, served))
    one = Outcome(((204, True),), (served,))
    refused = Outcome(((204, True), (431, False)), (served,))
    assert requests.agree(both, both)
    assert not requests.agree(both, one)
    assert not requests.agree(both, refused)
    assert requests.agree(refused, both)
    assert not requests.agree(refused, Outcome((), ()))
    assert requests.agree(refused, Outcome(((431, False),), ()))


def test_slow_input_is_reported() -> None:
    """A single slow run is not enough: the best of three counts."""
    runs: list[int] = []

    def burn(seconds: float) -> None:
        began = time.thread_time()
        while time.thread_time() - began < seconds:
            pass

    def slow_once(data: bytes) -> None:
        runs.append(1)
        burn(2 * BUDGET if len(runs) == 1 else 0)

    assert cost_of(Target((), lambda data: burn(1.5 * BUDGET), lambda data: None), b"") > BUDGET
    assert cost_of(Target((), slow_once, lambda data: None), b"") <= BUDGET
