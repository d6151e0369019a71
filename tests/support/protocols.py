"""How the transports of tests tell a protocol of what arrives, one with a buffer of its own as well."""

from __future__ import annotations

import asyncio


def receive(protocol: asyncio.BaseProtocol, data: bytes) -> bytes:
    """Tell of one read; what did not fit into the protocol's buffer is left for the next."""
    if isinstance(protocol, asyncio.BufferedProtocol):
        room = memoryview(protocol.get_buffer(len(data)))
        piece, rest = data[: len(room)], data[len(room) :]
        room[: len(piece)] = piece
        protocol.buffer_updated(len(piece))
        return rest
    assert isinstance(protocol, asyncio.Protocol)
    protocol.data_received(data)
    return b""
