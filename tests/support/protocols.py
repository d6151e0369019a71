"""Deliver received bytes to a protocol, with or without a buffer of its own."""

from __future__ import annotations

import asyncio


def receive(protocol: asyncio.BaseProtocol, data: bytes) -> bytes:
    """Deliver one read, and return the bytes that did not fit into the protocol's buffer."""
    if isinstance(protocol, asyncio.BufferedProtocol):
        room = memoryview(protocol.get_buffer(len(data)))
        piece, rest = data[: len(room)], data[len(room) :]
        room[: len(piece)] = piece
        protocol.buffer_updated(len(piece))
        return rest
    assert isinstance(protocol, asyncio.Protocol)
    protocol.data_received(data)
    return b""
