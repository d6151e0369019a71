"""Headers of a request that Sidekey acts on, and its trace ID."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.headers import Role
from sidekey.policy.messages import RequestHead, trace_id


def head(method: bytes = b"GET", *, http_1_1: bool = True, **control_headers: bytes) -> RequestHead:
    """Build a head with control headers by the names of their roles."""
    result = {Role[name.upper()]: value for name, value in control_headers.items()} or None
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


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def traced_head(*values: bytes, name: bytes = b"Traceparent") -> RequestHead:
    """Build a request with a trace header for each value, among others."""
    lines = [b"\r\nAccept: */*", *(b"\r\n%b: %b" % (name, value) for value in values), b"\r\nX-A: 1"]
    names = [b"accept", *[name.lower().replace(b"_", b"-")] * len(values), b"x-a"]
    return RequestHead(b"GET", b"/", b"h", lines, names)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (f"00-{TRACE}-{PARENT}-01", TRACE),
        (f"00-{TRACE}-{PARENT}-00", TRACE),
        (f" 00-{TRACE}-{PARENT}-01\t", TRACE),
        (f"01-{TRACE}-{PARENT}-01", TRACE),
        (f"fe-{TRACE}-{PARENT}-01-what else", TRACE),
        (f"00-{TRACE}-{PARENT}-01-what else", ""),
        (f"00-{TRACE}-{PARENT}-01-", ""),
        (f"fe-{TRACE}-{PARENT}-01.what else", ""),
        (f"ff-{TRACE}-{PARENT}-01", ""),
        (f"00-{TRACE.upper()}-{PARENT}-01", ""),
        (f"00-{'0' * 32}-{PARENT}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE[1:]}-{PARENT}-01", ""),
        (f"00-{TRACE}-{PARENT}", ""),
        (f"00-{TRACE}-{PARENT}-1g", ""),
        (f"x00-{TRACE}-{PARENT}-01", ""),
        (f"00-{TRACE}-{PARENT}-01x", ""),
        ("", ""),
    ],
)
def test_trace_id_of_a_valid_traceparent(value: str, result: str) -> None:
    """Version 00 is exact. Later versions may add text after a dash (W3C Trace Context 3.2.2, 4)."""
    assert trace_id(traced_head(value.encode())) == result


def test_no_trace_id_without_exactly_one_traceparent() -> None:
    valid = f"00-{TRACE}-{PARENT}-01".encode()
    assert trace_id(traced_head()) == ""
    assert trace_id(traced_head(valid, valid)) == ""
    assert trace_id(traced_head(valid, name=b"Trace_parent")) == ""
    assert trace_id(traced_head(valid, name=b"TraceParent")) == TRACE


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}"))
def test_any_other_value_has_no_trace_id(value: bytes) -> None:
    """The ID is 32 hexadecimal digits that are not all 0, or empty."""
    result = trace_id(traced_head(value))
    assert result == "" or (re.fullmatch(r"[0-9a-f]{32}", result) and int(result, 16))
