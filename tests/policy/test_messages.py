"""The head of a request: what its marks say."""

from __future__ import annotations

import pytest

from sidekey.policy.headers import Role
from sidekey.policy.messages import RequestHead


def head(method: bytes = b"GET", *, http_1_1: bool = True, **marks: bytes) -> RequestHead:
    """A head with these marks, by the names of their roles."""
    found = {Role[name.upper()]: value for name, value in marks.items()} or None
    return RequestHead(method, b"/i/h/a", b"h.test", [], [], found, http_1_1=http_1_1)


def test_a_plain_head_has_no_marks() -> None:
    """And is that of an HTTP/1.1 request without a body, whose connection persists."""
    plain = head()
    assert (plain.marks, plain.mark(Role.VIA), plain.hop_fields()) == (None, None, [])
    assert (plain.expects_continue, plain.is_last_hop, head(b"OPTIONS").is_last_hop) == (False, False, False)
    assert (plain.length, plain.length_given, plain.http_1_1, plain.keep_alive) == (0, False, True, True)


def test_a_mark_is_found_by_its_role() -> None:
    """And is None where the field was not sent."""
    marked = head(via=b"1.0 a")
    assert (marked.mark(Role.VIA), marked.mark(Role.ORIGIN)) == (b"1.0 a", None)


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
def test_a_caller_waits_for_100_where_it_may(expected: bytes, http_1_1: bool, waits: bool) -> None:
    """RFC 9110 10.1.1: an HTTP/1.0 caller cannot; the field goes on only for one that can."""
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
def test_max_forwards_counts_hops_of_options(method: bytes, hops: bytes, last: bool, forwarded: bytes) -> None:
    """RFC 9110 7.6.2: of no other method, and only where it is a number; however long, it costs nothing to read."""
    counted = head(method, max_forwards=hops)
    assert counted.is_last_hop is last
    assert counted.hop_fields() == [(b"max-forwards", b"\r\nMax-Forwards: " + forwarded)]


def test_both_fields_of_a_hop_go_on() -> None:
    """In one order."""
    names = [name for name, _ in head(b"OPTIONS", expect=b"100-continue", max_forwards=b"2").hop_fields()]
    assert names == [b"expect", b"max-forwards"]
