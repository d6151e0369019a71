"""The rules of body framing that llhttp leaves to us (RFC 9112 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core import framing


@given(st.integers(0, 10 ** (framing.DIGITS - 1) - 1))
def test_a_number_of_bytes_is_read_as_it_stands(length: int) -> None:
    """Every length of up to 18 digits is read, with white space around it or not."""
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
        b"5e0",
        b"0x5",
        b'"5"',
        b"1_0",
        "\N{ARABIC-INDIC DIGIT FIVE}".encode(),
        b"9" * framing.DIGITS,
    ],
)
def test_what_is_no_number_of_bytes_is_refused(value: bytes) -> None:
    """Content-Length is 1*DIGIT (RFC 9110 8.6); what Python's int() would take besides is not."""
    with pytest.raises(framing.BadFraming):
        framing.content_length(value)


@given(st.binary(max_size=30))
def test_a_length_is_digits_or_refused(value: bytes) -> None:
    """Whatever stands in the field is read as its digits or not at all."""
    try:
        length = framing.content_length(value)
    except framing.BadFraming:
        return
    assert value.strip(b" \t").isdigit()
    assert length == int(value.strip(b" \t"))


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" chunked\t", b"CHUNKED"])
def test_chunked_alone_is_the_one_coding(value: bytes) -> None:
    """Transfer codings are case-insensitive (RFC 9112 7)."""
    assert framing.transfer_encoding(value) == framing.CHUNKED


@pytest.mark.parametrize("value", [b"gzip, chunked", b"deflate,chunked"])
def test_a_coding_before_chunked_is_not_implemented(value: bytes) -> None:
    """A coding that could be decoded by someone else is told from a fault: 501 (RFC 9112 6.1)."""
    with pytest.raises(framing.BadFraming) as refused:
        framing.transfer_encoding(value)
    assert refused.value.unknown_coding


@pytest.mark.parametrize(
    "value",
    [b"", b"gzip", b"chunked, gzip", b"chunked, chunked", b"xchunked", b'"chunked"', b"\x0bchunked", b"chunked\xa0"],
)
def test_a_coding_that_does_not_end_in_chunked_alone_is_a_fault(value: bytes) -> None:
    """The end of such a request cannot be known: 400 (RFC 9112 6.3)."""
    with pytest.raises(framing.BadFraming) as refused:
        framing.transfer_encoding(value)
    assert not refused.value.unknown_coding


@pytest.mark.parametrize(("length_given", "http_1_1"), [(True, True), (False, False), (True, False)])
def test_a_coding_beside_a_length_or_in_http_1_0_is_refused(length_given: bool, http_1_1: bool) -> None:
    """Both are how requests are smuggled (RFC 9112 6.1)."""
    with pytest.raises(framing.BadFraming):
        framing.coded_length(b"chunked", length_given=length_given, http_1_1=http_1_1)


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
    ],
)
def test_the_length_of_an_answer(
    status: int, length: int | None, encoding: bytes | None, head: bool, expected: int
) -> None:
    """RFC 9112 6.3, in its order."""
    assert framing.response_length(status, length, encoding, head=head) == expected


@pytest.mark.parametrize(("length", "encoding"), [(5, b"chunked"), (None, b"gzip"), (None, b"gzip, chunked")])
def test_an_answer_with_ambiguous_framing_is_refused(length: int | None, encoding: bytes) -> None:
    """It cannot be told where such an answer ends, whatever was asked."""
    with pytest.raises(framing.BadFraming):
        framing.response_length(200, length, encoding, head=False)
