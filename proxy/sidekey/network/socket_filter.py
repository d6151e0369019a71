"""Kernel filters that drop packets for a socket (socket(7), SO_ATTACH_FILTER).

Bytes can arrive between the last read of a socket and its close, which then resets the connection. Packets that a
filter drops never arrive, so they cause no reset. Only Linux has these filters; for TCP they start at its header
(RFC 9293 3.1). Elsewhere the short race remains.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27

_Instruction = tuple[int, int, int, int]
"""A classic BPF instruction: code, jump if true, jump if false, operand."""

_DROP: _Instruction = (0x06, 0, 0, 0)
_PASS: _Instruction = (0x06, 0, 0, 0xFFFFFFFF)

_EVERYTHING = (_DROP,)
_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN without ACK?
    _DROP,
    _PASS,
)
_PAYLOAD = (
    (0x30, 0, 0, 12),  # load the byte whose upper half is the header's length in words of 4 bytes
    (0x54, 0, 0, 0xF0),
    (0x74, 0, 0, 2),  # convert to bytes
    (0x07, 0, 0, 0),
    (0x80, 0, 0, 0),  # load the packet's length
    (0x2D, 0, 1, 0),  # longer than the header?
    _DROP,
    _PASS,
)


def refuse_everything(sock: socket.socket) -> None:
    """Drop every packet."""
    _attach(sock, _EVERYTHING)


def refuse_new(sock: socket.socket) -> None:
    """Drop new connections to a listening socket. TCP handshakes that are under way can complete."""
    _attach(sock, _NEW_CONNECTIONS)


def refuse_payload(sock: socket.socket) -> None:
    """Drop packets with payload. Other TCP packets still arrive, so both ends learn of a close."""
    _attach(sock, _PAYLOAD)


def remove_filter(sock: socket.socket) -> None:
    """Remove the filter. The peer retransmits dropped packets."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _attach(sock: socket.socket, program: Sequence[_Instruction]) -> None:
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))
