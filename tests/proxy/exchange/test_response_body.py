"""Redacted bodies: decoded, searched, and released in steps."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.framing import CHUNKED, UNTIL_CLOSE
from sidekey.policy.messages import ResponseHead
from sidekey.policy.redaction import MARK, Redactor
from sidekey.proxy.content_coding import STEP, UnreadableCoding
from sidekey.proxy.exchange.response_body import RedactedBody, redacted_head
from support.http_strategies import cuts, pieces

SECRET = b"s3cr3t-of-crm"
REDACTOR = Redactor((SECRET,))


def head(*fields: bytes, length: int = CHUNKED, status: int = 200) -> ResponseHead:
    return ResponseHead(status, [b"\r\n" + field for field in fields], None, length, 7)


def steps(body: RedactedBody) -> list[bytes]:
    """Return the steps that are ready."""
    result = []
    while body.can_step:
        result.append(body.step())
    return result


def test_pieces_are_searched_together() -> None:
    """A possible start of a secret waits for the next read or the end."""
    body = RedactedBody(head(), REDACTOR)
    assert not body.can_step
    body.add([b"a", b"b" + SECRET[:4]], whole=False)
    assert steps(body) == [b"ab"]
    body.add([SECRET[4:], b"!"], whole=False)
    assert (steps(body), body.over) == ([MARK + b"!"], False)
    body.add([SECRET[:5]], whole=True)
    assert (steps(body), body.over, body.can_step) == ([SECRET[:5]], True, False)


def test_an_end_without_a_last_piece() -> None:
    body = RedactedBody(head(), REDACTOR)
    body.add([SECRET[:5]], whole=False)
    assert steps(body) == [b""]
    body.add([], whole=True)
    assert (steps(body), body.over) == ([SECRET[:5]], True)


def test_encoded_body_is_released_decoded_in_bounded_steps() -> None:
    raw = gzip.compress(bytes(9 * STEP) + SECRET)
    body = RedactedBody(head(b"Content-Encoding: gzip"), REDACTOR)
    body.add([raw[:20], raw[20:]], whole=True)
    result = steps(body)
    assert b"".join(result) == bytes(9 * STEP) + MARK
    assert max(map(len, result)) <= STEP + len(MARK)
    assert (len(result) > 9, body.over) == (True, True)


CODED = {
    "": (b"X: 1", lambda body: body),
    "gzip": (b"Content-Encoding: gzip", gzip.compress),
}


@pytest.mark.parametrize("coding", CODED)
@given(
    parts=st.lists(st.sampled_from([SECRET, SECRET[:5], SECRET[5:], b"s3", b"x", b"%", b"czNj"]), max_size=12),
    data=st.data(),
)
def test_any_split_of_an_encoded_body_gives_the_same_text(coding: str, parts: list[bytes], data: st.DataObject) -> None:
    field, encode = CODED[coding]
    plain = b"".join(parts)
    raw = encode(plain)
    body = RedactedBody(head(field), REDACTOR)
    result = []
    for piece in pieces(raw, data.draw(cuts(len(raw)))):
        body.add([piece], whole=False)
        result += steps(body)
    body.add([], whole=True)
    result += steps(body)
    assert b"".join(result) == REDACTOR.split(plain, is_last=True)[0]
    assert SECRET not in b"".join(result)


def test_undecodable_body_is_reported() -> None:
    with pytest.raises(UnreadableCoding):
        RedactedBody(head(b"Content-Encoding: br"), REDACTOR)
    body = RedactedBody(head(b"Content-Encoding: gzip"), REDACTOR)
    body.add([gzip.compress(b"hello")[:-1]], whole=True)
    with pytest.raises(UnreadableCoding):
        steps(body)


def test_head_no_longer_describes_the_original_body() -> None:
    """Length, coding, tag and digests are removed in every spelling."""
    gone = [
        b"ETag: 1",
        b"etag: W/2",
        b"Content-Digest: a",
        b"Repr-Digest: a",
        b"Digest: a",
        b"Content-MD5: a",
        b"Accept-Ranges: bytes",
        b"Content_Encoding: gzip",
    ]
    kept = [b"Vary: Accept-Encoding", b"Content-Type: text/plain"]
    result = redacted_head(head(*gone, *kept))
    assert result.fields == [b"\r\n" + field for field in kept]
    assert (result.status, result.length, result.content_length) == (200, UNTIL_CLOSE, None)
    assert redacted_head(head(length=0)).length == 0
