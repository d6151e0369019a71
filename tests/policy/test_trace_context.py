"""The trace ID of a request."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.messages import RequestHead, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def head(*values: bytes, name: bytes = b"Traceparent") -> RequestHead:
    """Build a request with these headers among others."""
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
    assert trace_id(head(value.encode())) == result


def test_no_trace_id_without_exactly_one_traceparent() -> None:
    valid = f"00-{TRACE}-{PARENT}-01".encode()
    assert trace_id(head()) == ""
    assert trace_id(head(valid, valid)) == ""
    assert trace_id(head(valid, name=b"Trace_parent")) == ""
    assert trace_id(head(valid, name=b"TraceParent")) == TRACE


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}"))
def test_any_other_value_has_no_trace_id(value: bytes) -> None:
    """The ID is 32 hexadecimal digits that are not all 0, or empty."""
    result = trace_id(head(value))
    assert result == "" or (re.fullmatch(r"[0-9a-f]{32}", result) and int(result, 16))
