"""Packets that a socket does not receive any more: filters in the kernel (socket(7), SO_ATTACH_FILTER).

Between looking at a socket and closing it something can always arrive, which the close resets; no call does both. What
a filter drops has not arrived, and its sender goes by the end of the connection. Linux alone has them, and for TCP they
begin at its header (RFC 9293 3.1). Where there are none, the moment between the look and the close remains.
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
"""Code, how many instructions to skip where it is true and where it is false, operand (classic BPF)."""

_DROP: _Instruction = (0x06, 0, 0, 0)
_PASS: _Instruction = (0x06, 0, 0, 0xFFFFFFFF)

_EVERYTHING = (_DROP,)
_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the flags
    (0x54, 0, 0, 0x12),  # of them SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    _DROP,
    _PASS,
)
_PAYLOAD = (
    (0x30, 0, 0, 12),  # load the byte with the header's length, in words of 4 bytes and shifted by 4
    (0x54, 0, 0, 0xF0),
    (0x74, 0, 0, 2),  # which makes it bytes
    (0x07, 0, 0, 0),
    (0x80, 0, 0, 0),  # load the length of all
    (0x2D, 0, 1, 0),  # more than the header?
    _DROP,
    _PASS,
)


def refuse_everything(sock: socket.socket) -> None:
    """Receive no packet at all."""
    _attach(sock, _EVERYTHING)


def refuse_new(sock: socket.socket) -> None:
    """Let nobody begin to connect to a listening socket; handshakes that are under way come to their end."""
    _attach(sock, _NEW_CONNECTIONS)


def refuse_payload(sock: socket.socket) -> None:
    """Receive no byte of the stream; what else TCP sends still comes, so that both ends learn of a close."""
    _attach(sock, _PAYLOAD)


def receive_again(sock: socket.socket) -> None:
    """Drop nothing any more; what was dropped is sent again."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def _attach(sock: socket.socket, program: Sequence[_Instruction]) -> None:
    if sys.platform != "linux" or sock.family == socket.AF_UNIX:
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))
