"""A gzip body is decoded piece by piece, and never to more than was allowed."""

from __future__ import annotations

import gzip
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.network.gunzip import Gunzip, TooLongError


def decoded(data: bytes, largest: int, size: int) -> tuple[bytes, bool]:
    """What comes of `data` in pieces of `size`, and whether it was whole."""
    gunzip = Gunzip(largest)
    return b"".join(gunzip.feed(data[at : at + size]) for at in range(0, len(data), size)), gunzip.complete


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_body_comes_out_as_it_went_in(body: bytes, size: int) -> None:
    """However it is cut; exactly the allowed size is allowed."""
    assert decoded(gzip.compress(body), len(body), size) == (body, True)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 40))
def test_one_byte_too_many_is_refused(body: bytes, size: int) -> None:
    """Wherever it comes."""
    with pytest.raises(TooLongError):
        decoded(gzip.compress(body), len(body) - 1, size)


@given(st.binary(max_size=300), st.data())
def test_what_is_cut_is_not_complete(body: bytes, data: st.DataObject) -> None:
    """Also in its trailer, which holds the checksum."""
    whole = gzip.compress(body)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert not decoded(cut, 300, 7)[1]


@given(st.binary(min_size=1, max_size=100))
def test_what_is_not_gzip_is_an_error_of_its_own(body: bytes) -> None:
    """Nothing else is ever raised."""
    with suppress(ValueError, TooLongError):
        assert not decoded(body, 100, 9)[1]


@pytest.mark.parametrize(
    "data",
    [
        b"plain text",
        gzip.compress(b"ok")[:-5] + b"xxxxx",
        gzip.compress(b"ok") + b"x",
        gzip.compress(b"ok") + gzip.compress(b"ok"),
    ],
    ids=["plain", "checksum", "tail", "two members"],
)
def test_what_is_wrong_or_goes_on_is_refused(data: bytes) -> None:
    """A checksum that does not fit, and what stands behind the end."""
    with pytest.raises(ValueError, match=r"^must "):
        decoded(data, 100, 1000)


def test_a_bomb_takes_no_more_memory_than_was_allowed() -> None:
    """A thousand bytes for each that is sent: 64 MiB in 64 KiB."""
    bomb = gzip.compress(bytes(64 << 20))
    gunzip = Gunzip(1 << 10)
    tracemalloc.start()
    try:
        with pytest.raises(TooLongError):
            gunzip.feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
