"""Body framing that llhttp leaves to its user (RFC 9112 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy import framing


@given(st.integers(0, 10**framing.MAX_DIGITS - 1))
def test_content_length_of_up_to_18_digits_is_parsed(length: int) -> None:
    """With or without white space."""
    assert framing.content_length(b"%d" % length) == length
    assert framing.content_length(b" %d\t" % length) == length


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"-5",
        b"+5",
        b"5, 5",
        b"5 5",
        b"5a",
        b"5x",
        b"5e0",
        b"0x5",
        b'"5"',
        b"1_0",
        "\N{ARABIC-INDIC DIGIT FIVE}".encode(),
        b"9" * (framing.MAX_DIGITS + 1),
    ],
)
def test_invalid_content_length_is_refused(value: bytes) -> None:
    """Content-Length is 1*DIGIT (RFC 9110 8.6). Python's int() accepts more."""
    with pytest.raises(framing.BadFraming, match=r"\AContent-Length must be a number of bytes\Z"):
        framing.content_length(value)


def test_no_length_equals_another_framing() -> None:
    assert framing.CHUNKED < 0
    assert framing.UNTIL_CLOSE < 0
    assert framing.CHUNKED != framing.UNTIL_CLOSE


@given(st.binary(max_size=30))
def test_any_content_length_is_digits_or_refused(value: bytes) -> None:
    try:
        length = framing.content_length(value)
    except framing.BadFraming:
        return
    assert value.strip(b" \t").isdigit()
    assert length == int(value.strip(b" \t"))


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" chunked\t", b"CHUNKED"])
def test_chunked_is_the_only_coding_that_is_forwarded(value: bytes) -> None:
    """Transfer codings are case-insensitive (RFC 9112 7)."""
    assert framing.transfer_encoding(value) == framing.CHUNKED


@pytest.mark.parametrize("value", [b"gzip, chunked", b"deflate,chunked"])
def test_coding_before_chunked_is_not_implemented(value: bytes) -> None:
    """501, since it is no error of the request (RFC 9112 6.1)."""
    with pytest.raises(framing.BadFraming) as refused:
        framing.transfer_encoding(value)
    assert refused.value.unknown_coding
    assert str(refused.value) == "Transfer-Encoding must not have a coding other than chunked"


@pytest.mark.parametrize(
    "value",
    [b"", b"gzip", b"chunked, gzip", b"chunked, chunked", b"xchunked", b'"chunked"', b"\x0bchunked", b"chunked\xa0"],
)
def test_coding_that_does_not_end_in_chunked_is_refused(value: bytes) -> None:
    """400, since the end of the request is unknown (RFC 9112 6.3)."""
    with pytest.raises(framing.BadFraming) as refused:
        framing.transfer_encoding(value)
    assert not refused.value.unknown_coding
    assert str(refused.value) == "Transfer-Encoding must end in chunked, once"


BOTH = "Content-Length and Transfer-Encoding must not both be given"


@pytest.mark.parametrize(
    ("has_content_length", "http_1_1", "reason"),
    [
        (True, True, BOTH),
        (True, False, BOTH),
        (False, False, "Transfer-Encoding must not be given in an HTTP/1.0 request"),
    ],
)
def test_coding_with_a_content_length_or_in_http_1_0_is_refused(
    has_content_length: bool, http_1_1: bool, reason: str
) -> None:
    """Both allow request smuggling (RFC 9112 6.1)."""
    with pytest.raises(framing.BadFraming) as refused:
        framing.coded_length(b"chunked", has_content_length=has_content_length, http_1_1=http_1_1)
    assert (str(refused.value), refused.value.unknown_coding) == (reason, False)


def test_chunked_request_is_accepted() -> None:
    assert framing.coded_length(b"chunked", has_content_length=False, http_1_1=True) == framing.CHUNKED


def test_length_line_begins_with_a_line_end() -> None:
    assert framing.length_line(1024) == b"\r\nContent-Length: 1024"


@pytest.mark.parametrize(
    ("status", "length", "encoding", "head", "expected"),
    [
        (200, 5, None, False, 5),
        (200, None, b"chunked", False, framing.CHUNKED),
        (200, None, None, False, framing.UNTIL_CLOSE),
        (200, 1000, None, True, 0),
        (200, None, b"chunked", True, 0),
        (204, 5, None, False, 0),
        (304, 20, None, False, 0),
        (404, 0, None, False, 0),
        (100, None, None, False, 0),
        (199, 5, None, False, 0),
    ],
)
def test_length_of_a_response_body(
    status: int, length: int | None, encoding: bytes | None, head: bool, expected: int
) -> None:
    """In the order of RFC 9112 6.3."""
    assert framing.response_length(status, length, encoding, head=head) == expected


@pytest.mark.parametrize(
    ("length", "encoding", "reason"),
    [
        (5, b"chunked", BOTH),
        (None, b"gzip", "Transfer-Encoding must end in chunked, once"),
        (None, b"gzip, chunked", "Transfer-Encoding must not have a coding other than chunked"),
    ],
)
@pytest.mark.parametrize("head", [False, True])
def test_response_with_ambiguous_framing_is_refused(
    length: int | None, encoding: bytes, reason: str, head: bool
) -> None:
    with pytest.raises(framing.BadFraming) as refused:
        framing.response_length(200, length, encoding, head=head)
    assert str(refused.value) == reason
