"""The subset of HTTP that the benchmarks' own upstreams and callers speak."""

from __future__ import annotations

import socket

import pytest

from benchmarks import wire
from benchmarks.processes import MeasureFailed


def test_a_head_is_read_into_its_parts() -> None:
    """Names are lower case, values are stripped of spaces."""
    head = wire.parse_head(b"POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length:  12 ")
    assert head == wire.Head(("POST", "/api/x", "HTTP/1.1"), (("host", "a"), ("content-length", "12")))
    assert head.length == 12


@pytest.mark.parametrize("fields", [b"Transfer-Encoding: chunked", b"Content-Length: 1\r\nContent-Length: 1"])
def test_a_body_with_other_framing_is_a_failure(fields: bytes) -> None:
    """A peer that changes the framing does not do the work of the others."""
    with pytest.raises(MeasureFailed, match="without Content-Length"):
        assert wire.parse_head(b"HTTP/1.1 200 OK\r\n" + fields).length


def test_the_echo_shows_every_credential_that_came() -> None:
    """Two Authorization headers do not look like one."""
    head = wire.parse_head(b"POST /api/check HTTP/1.1\r\nAuthorization: one\r\nauthorization: two")
    assert wire.echo(head).endswith(b"\r\n\r\none, two")


def test_a_head_may_come_in_pieces_and_with_some_of_the_body() -> None:
    """What came of the body is returned."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n")
        theirs.sendall(b"\r\nbo")
        head, begun = wire.receive_head(ours)
        assert (head.length, begun) == (4, b"bo")
        theirs.close()
        with pytest.raises(MeasureFailed, match="after 0 bytes"):
            wire.receive_head(ours)


def test_only_a_200_is_a_success() -> None:
    """The error names any other status."""
    wire.expect_success(wire.parse_head(b"HTTP/1.1 200 OK"))
    with pytest.raises(MeasureFailed, match="responded 502 Bad Gateway"):
        wire.expect_success(wire.parse_head(b"HTTP/1.1 502 Bad Gateway"))
