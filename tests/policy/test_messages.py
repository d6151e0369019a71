"""Headers of a request that Sidekey acts on."""

from __future__ import annotations

import pytest

from sidekey.policy.headers import Role
from sidekey.policy.messages import RequestHead


def head(method: bytes = b"GET", *, http_1_1: bool = True, **marks: bytes) -> RequestHead:
    """Build a head with marks by the names of their roles."""
    result = {Role[name.upper()]: value for name, value in marks.items()} or None
    return RequestHead(method, b"/i/h/a", b"h.test", [], [], result, http_1_1=http_1_1)


@pytest.mark.parametrize(
    ("expected", "http_1_1", "waits"),
    [
        (b"100-continue", True, True),
        (b"100-Continue", True, True),
        (b"other, 100-continue", True, True),
        (b"100-continue", False, False),
        (b"other", True, False),
        (b"", True, False),
    ],
)
def test_expect_continue_needs_http_1_1(expected: bytes, http_1_1: bool, waits: bool) -> None:
    """RFC 9110 10.1.1. Expect is forwarded for HTTP/1.1 only."""
    waiting = head(http_1_1=http_1_1, expect=expected)
    assert waiting.expects_continue is waits
    assert waiting.hop_fields() == ([(b"expect", b"\r\nExpect: " + expected)] if http_1_1 else [])


@pytest.mark.parametrize(
    ("method", "hops", "last", "forwarded"),
    [
        (b"OPTIONS", b"0", True, b"0"),
        (b"OPTIONS", b"000", True, b"0"),
        (b"OPTIONS", b"1", False, b"0"),
        (b"OPTIONS", b"10", False, b"9"),
        (b"OPTIONS", b"9" * 5000, False, b"999998"),
        (b"OPTIONS", b"-1", False, b"-1"),
        (b"OPTIONS", b"x", False, b"x"),
        (b"OPTIONS", b"", False, b""),
        (b"GET", b"0", False, b"0"),
        (b"GET", b"5", False, b"5"),
    ],
)
def test_max_forwards_is_decremented_on_options(method: bytes, hops: bytes, last: bool, forwarded: bytes) -> None:
    """RFC 9110 7.6.2. A huge number costs no time."""
    counted = head(method, max_forwards=hops)
    assert counted.is_last_hop is last
    assert counted.hop_fields() == [(b"max-forwards", b"\r\nMax-Forwards: " + forwarded)]


def test_expect_and_max_forwards_are_forwarded_in_order() -> None:
    names = [name for name, _ in head(b"OPTIONS", expect=b"100-continue", max_forwards=b"2").hop_fields()]
    assert names == [b"expect", b"max-forwards"]
