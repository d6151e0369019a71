"""The strict reader takes what a clean sender writes, and nothing that two readers could take differently."""

from __future__ import annotations

import pytest

from support import wire

POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"


def test_requests_are_split_where_their_framing_ends() -> None:
    """Two requests in one piece are two requests, with their bodies freed of chunk framing."""
    first, second = wire.requests(POST + CHUNKED)
    assert (first.method, first.target, first.body) == (b"POST", b"/a", b"abc")
    assert (second.target, second.body, second.trailers) == (b"/b", b"abcde", ((b"x-t", b"1"),))


@pytest.mark.parametrize("whole", [POST, CHUNKED, CHUNKED.replace(b"X-T: 1\r\n", b"")])
def test_every_cut_of_a_request_is_incomplete(whole: bytes) -> None:
    """No part of a request passes for a request."""
    assert [size for size in range(len(whole)) if wire.first_request(whole[:size])] == []
    message = wire.first_request(whole + b"GET")
    assert message is not None
    assert message.length == len(whole)


@pytest.mark.parametrize(
    "unclean",
    [
        b"GET /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"GET /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
        b"GET /a HTTP/1.1\r\nHost : h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX: a\r\n folded\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"GET  /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ],
)
def test_ambiguous_requests_are_unclean(unclean: bytes) -> None:
    """Each of the forms that request smuggling is made of is refused."""
    with pytest.raises(wire.Unclean):
        wire.requests(unclean)


def test_a_request_that_is_cut_off_at_the_end_is_unclean() -> None:
    """A body shorter than its length never counts as arrived."""
    with pytest.raises(wire.Unclean):
        wire.requests(POST[:-1])


def test_a_response_without_framing_ends_with_its_connection() -> None:
    """RFC 9112 6.3: such a response is complete only once the connection was closed."""
    data = b"HTTP/1.1 200 OK\r\n\r\nabc"
    assert wire.first_response(data) is None
    message = wire.first_response(data, ended=True)
    assert message is not None
    assert (message.status, message.body) == (200, b"abc")


@pytest.mark.parametrize(
    ("start", "to_head"), [(b"HTTP/1.1 200 OK", True), (b"HTTP/1.1 204 No Content", False), (b"HTTP/1.1 304 ", False)]
)
def test_responses_without_a_body_end_with_their_head(start: bytes, to_head: bool) -> None:
    """RFC 9112 6.3: what HEAD, 204 and 304 say of a length describes a body that is not sent."""
    message = wire.first_response(start + b"\r\nContent-Length: 3\r\n\r\nHTTP/1.1", to_head=to_head)
    assert message is not None
    assert message.body == b""
