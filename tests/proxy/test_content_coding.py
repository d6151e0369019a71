"""Content codings, and decoding of gzip in bounded steps."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.proxy.content_coding import STEP, GzipDecoder, UnreadableCoding, accept_encoding_line, is_gzip
from support.http_strategies import cuts, pieces

BROKEN = r"\Athe content coding of the upstream's response is broken, so it cannot be redacted\Z"


def read(decoder: GzipDecoder) -> bytes:
    """Decode everything available, in steps."""
    out = bytearray()
    while decoder.can_step:
        step = decoder.step()
        assert len(step) <= STEP
        out += step
    return bytes(out)


def decode(reads: list[bytes]) -> bytes:
    """Decode a body that arrives in these reads."""
    decoder = GzipDecoder()
    out = bytearray()
    for piece in reads:
        decoder.feed(piece, whole=False)
        out += read(decoder)
    decoder.feed(b"", whole=True)
    return bytes(out) + read(decoder) + decoder.step()


@given(body=st.binary(max_size=300), data=st.data())
def test_any_split_of_a_body_is_decoded(body: bytes, data: st.DataObject) -> None:
    raw = gzip.compress(body)
    assert decode(pieces(raw, data.draw(cuts(len(raw))))) == body


def test_large_output_is_returned_in_steps() -> None:
    """A few bytes may decode to a thousand times as many."""
    body = bytes(40 * STEP + 1)
    decoder = GzipDecoder()
    decoder.feed(gzip.compress(body), whole=True)
    steps = 0
    size = 0
    while decoder.can_step:
        steps += 1
        size += len(decoder.step())
    assert size == len(body)
    assert steps > 40


def test_gzip_members_are_decoded_one_in_each_step() -> None:
    """RFC 1952 2.2. Many small members are bounded, too."""
    raw = b"".join(gzip.compress(b"%d," % number) for number in range(300))
    decoder = GzipDecoder()
    decoder.feed(raw, whole=True)
    steps = []
    while decoder.can_step:
        steps.append(decoder.step())
    assert [step for step in steps if step] == [b"%d," % number for number in range(300)]


def test_flushed_data_is_returned_at_once() -> None:
    """An event does not wait for the next one."""
    compress = zlib.compressobj(wbits=31)
    decoder = GzipDecoder()
    for number in range(5):
        event = b"data: %d\n\n" % number
        decoder.feed(compress.compress(event) + compress.flush(zlib.Z_SYNC_FLUSH), whole=False)
        assert read(decoder) == event
    decoder.feed(compress.flush(), whole=True)
    assert read(decoder) == b""


def test_empty_body_is_complete() -> None:
    """Some servers state a coding without a body."""
    assert decode([]) == b""


@pytest.mark.parametrize("cut", [1, 2, 8, -1, -5])
def test_truncated_body_is_an_error(cut: int) -> None:
    with pytest.raises(UnreadableCoding, match=BROKEN):
        decode([gzip.compress(b"hello, hello, hello")[:cut]])


@pytest.mark.parametrize(
    "raw",
    [
        b"plain text",
        gzip.compress(b"a", mtime=0) + b"rest",
        gzip.compress(b"a", mtime=0)[:-8] + bytes(8),
        zlib.compress(b"a"),
    ],
)
def test_invalid_gzip_is_an_error(raw: bytes) -> None:
    for reads in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        with pytest.raises(UnreadableCoding, match=BROKEN):
            decode(reads)


def lines(name: str, *values: str) -> list[bytes]:
    return [b"\r\nX: 1", *(f"\r\n{name}: {value}".encode() for value in values)]


@pytest.mark.parametrize(
    ("values", "gzipped"), [([], False), ([""], False), (["identity"], False), (["gzip"], True), (["X-GZIP "], True)]
)
def test_gzip_and_no_coding_are_supported(values: list[str], gzipped: bool) -> None:
    assert is_gzip(lines("content_ENCODING", *values)) is gzipped


@pytest.mark.parametrize(
    "values", [["br"], ["deflate"], ["gzip, gzip"], ["gzip", "deflate"], ["identity, br"], ["gzi p"]]
)
def test_other_codings_are_unsupported(values: list[str]) -> None:
    """Also two codings, because Sidekey requests one."""
    with pytest.raises(UnreadableCoding, match="cannot be read"):
        is_gzip(lines("Content-Encoding", *values))


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ([], b"identity"),
        ([""], b"identity"),
        (["*"], b"identity"),
        (["br, zstd"], b"identity"),
        (["gzip, deflate, br, zstd"], b"gzip"),
        (["br;q=1.0, GZIP; q=0.8, *;q=0.1"], b"gzip"),
        (["br", "x-gzip"], b"gzip"),
        (["br, identity;q=0"], b"identity"),
        (["gzip;q=0, deflate"], b"identity"),
        (["x-gzip;\tq=0.000"], b"identity"),
        (["gzip, identity;q=0"], b"gzip"),
        (["identity"], b"identity"),
    ],
)
def test_gzip_is_requested_if_the_caller_accepts_it(values: list[str], asked: bytes) -> None:
    """Without Accept-Encoding, a server may use any coding (RFC 9110 12.5.3)."""
    assert accept_encoding_line(lines("Accept-Encoding", *values)) == b"\r\nAccept-Encoding: " + asked
