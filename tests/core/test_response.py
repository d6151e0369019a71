"""The head of a response."""

from __future__ import annotations

import pytest

from sidekey.core.framing import CHUNKED
from sidekey.core.response import ResponseHead


def test_it_holds_what_was_read() -> None:
    """And nothing can be added to it."""
    head = ResponseHead(200, [b"\r\nX: 1"], b"x-hop", CHUNKED, None)
    assert (head.status, head.fields, head.connection) == (200, [b"\r\nX: 1"], b"x-hop")
    assert (head.length, head.content_length) == (CHUNKED, None)
    with pytest.raises(AttributeError):
        head.reason = b"OK"  # type: ignore[attr-defined]
