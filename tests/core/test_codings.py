"""Content codings that can be read, and reading them in bounded steps."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.core.codings import STEP, Decoder, UnreadableCoding, acceptable, coding_of
from support.http_strategies import cuts, pieces


def bare(data: bytes) -> bytes:
    """deflate without the zlib format around it, as some servers send it."""
    compress = zlib.compressobj(wbits=-15)
    return compress.compress(data) + compress.flush()


CODED = {"gzip": (b"gzip", gzip.compress), "zlib": (b"deflate", zlib.compress), "bare": (b"deflate", bare)}
coded = pytest.mark.parametrize("name", CODED)

BROKEN = r"\Athe content coding of the upstream's response is broken, so it cannot be redacted\Z"


def read(decoder: Decoder) -> bytes:
    """All that there is now, in steps."""
    out = bytearray()
    while decoder.waits:
        step = decoder.step()
        assert len(step) <= STEP
        out += step
    return bytes(out)


def decoded(coding: bytes, reads: list[bytes]) -> bytes:
    """A body that comes in these reads."""
    decoder = Decoder(coding)
    out = bytearray()
    for piece in reads:
        decoder.feed(piece, whole=False)
        out += read(decoder)
    decoder.feed(b"", whole=True)
    return bytes(out) + read(decoder) + decoder.step()


@coded
@given(body=st.binary(max_size=300), data=st.data())
def test_a_body_is_read_however_it_is_cut(name: str, body: bytes, data: st.DataObject) -> None:
    coding, encode = CODED[name]
    raw = encode(body)
    assert decoded(coding, pieces(raw, data.draw(cuts(len(raw))))) == body


@coded
def test_much_comes_in_steps(name: str) -> None:
    """A few bytes may inflate to a thousand times as much; each step gives out a bounded part of it."""
    coding, encode = CODED[name]
    body = bytes(40 * STEP + 1)
    decoder = Decoder(coding)
    decoder.feed(encode(body), whole=True)
    steps = 0
    size = 0
    while decoder.waits:
        steps += 1
        size += len(decoder.step())
    assert size == len(body)
    assert steps > 40


def test_members_of_gzip_follow_one_another() -> None:
    """RFC 1952 2.2; one a step, so that many small ones are bounded as well."""
    raw = b"".join(gzip.compress(b"%d," % number) for number in range(300))
    decoder = Decoder(b"gzip")
    decoder.feed(raw, whole=True)
    steps = []
    while decoder.waits:
        steps.append(decoder.step())
    assert [step for step in steps if step] == [b"%d," % number for number in range(300)]


def test_what_was_flushed_comes_at_once() -> None:
    """An event is not kept for the next."""
    compress = zlib.compressobj(wbits=31)
    decoder = Decoder(b"gzip")
    for number in range(5):
        event = b"data: %d\n\n" % number
        decoder.feed(compress.compress(event) + compress.flush(zlib.Z_SYNC_FLUSH), whole=False)
        assert read(decoder) == event
    decoder.feed(compress.flush(), whole=True)
    assert read(decoder) == b""


@coded
def test_a_body_of_nothing_is_whole(name: str) -> None:
    """Some servers name a coding although no body follows."""
    assert decoded(CODED[name][0], []) == b""


@coded
@pytest.mark.parametrize("cut", [1, 2, 8, -1, -5])
def test_a_cut_body_is_broken(name: str, cut: int) -> None:
    coding, encode = CODED[name]
    with pytest.raises(UnreadableCoding, match=BROKEN):
        decoded(coding, [encode(b"hello, hello, hello")[:cut]])


@pytest.mark.parametrize(
    ("coding", "raw"),
    [
        (b"gzip", b"plain text"),
        (b"gzip", gzip.compress(b"a", mtime=0) + b"rest"),
        (b"gzip", gzip.compress(b"a", mtime=0)[:-8] + bytes(8)),
        (b"gzip", zlib.compress(b"a")),
        (b"deflate", gzip.compress(b"a", mtime=0)),
        (b"deflate", zlib.compress(b"a") + b"rest"),
        (b"deflate", b"\xff\xff\xff"),
    ],
)
def test_what_is_not_in_the_coding_is_broken(coding: bytes, raw: bytes) -> None:
    """However it is cut."""
    for reads in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        with pytest.raises(UnreadableCoding, match=BROKEN):
            decoded(coding, reads)


def lines(name: str, *values: str) -> list[bytes]:
    return [b"\r\nX: 1", *(f"\r\n{name}: {value}".encode() for value in values)]


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([], b""),
        ([""], b""),
        (["identity"], b""),
        (["gzip"], b"gzip"),
        (["X-GZIP "], b"gzip"),
        (["deflate"], b"deflate"),
    ],
)
def test_one_coding_is_read(values: list[str], coding: bytes) -> None:
    assert coding_of(lines("content_ENCODING", *values)) == coding


@pytest.mark.parametrize("values", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "deflate"], ["identity, br"], ["gzi p"]])
def test_other_codings_are_unreadable(values: list[str]) -> None:
    """Two of them as well: no server that was asked for one uses them."""
    with pytest.raises(UnreadableCoding, match="cannot be read"):
        coding_of(lines("Content-Encoding", *values))


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ([], b"identity"),
        ([""], b"identity"),
        (["*"], b"identity"),
        (["br, zstd"], b"identity"),
        (["gzip, deflate, br, zstd"], b"gzip, deflate"),
        (["br;q=1.0, GZIP; q=0.8, *;q=0.1"], b"gzip; q=0.8"),
        (["br", "x-gzip"], b"x-gzip"),
        (["br, identity;q=0"], b"identity"),
        (["gzip;q=0, deflate;q=0.000"], b"identity"),
        (["gzip; q=0, deflate;\tq=0"], b"identity"),
        (["gzip, identity;q=0"], b"gzip, identity;q=0"),
        (["identity"], b"identity"),
    ],
)
def test_only_what_can_be_read_is_asked_for(values: list[str], asked: bytes) -> None:
    """Without the field any coding may come (RFC 9110 12.5.3)."""
    assert acceptable(lines("Accept-Encoding", *values)) == b"\r\nAccept-Encoding: " + asked
