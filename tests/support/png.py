"""Compress PNG screenshots: Chromium compresses them for speed, like photographs."""

from __future__ import annotations

import zlib
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PIXEL: Final = 3


def smaller(picture: bytes) -> bytes:
    """Compress a picture of 8-bit RGB again, without prediction between lines (ISO/IEC 15948, 9.2)."""
    header, data = b"", b""
    at = len(SIGNATURE)
    while at < len(picture):
        length = int.from_bytes(picture[at : at + 4], "big")
        kind, content = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            header = content
        elif kind == b"IDAT":
            data += content
        at += length + 12
    width = int.from_bytes(header[:4], "big")
    if header[8:13] != b"\x08\x02\x00\x00\x00":
        raise ValueError("the picture must have 8 bits by three colours, and no interlacing")
    lines = _lines(zlib.decompress(data), width * _PIXEL)
    packed = zlib.compress(b"".join(b"\x00" + line for line in lines), 9)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return SIGNATURE + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )


def _lines(data: bytes, length: int) -> list[bytearray]:
    """Return the lines of a picture, each with its filter type."""
    lines: list[bytearray] = []
    above = bytearray(length)
    for at in range(0, len(data), length + 1):
        line = bytearray(data[at + 1 : at + 1 + length])
        match data[at]:
            case 1:
                for x in range(_PIXEL, length):
                    line[x] = line[x] + line[x - _PIXEL] & 255
            case 2:
                line = bytearray(mine + over & 255 for mine, over in zip(line, above, strict=True))
            case 3:
                for x in range(length):
                    left_byte = line[x - _PIXEL] if x >= _PIXEL else 0
                    line[x] = line[x] + (left_byte + above[x] >> 1) & 255
            case 4:
                for x in range(length):
                    left_byte, corner = (line[x - _PIXEL], above[x - _PIXEL]) if x >= _PIXEL else (0, 0)
                    line[x] = line[x] + _nearest(left_byte, above[x], corner) & 255
        lines.append(line)
        above = line
    return lines


def _nearest(left: int, over: int, corner: int) -> int:
    """Return the prediction of the Paeth filter (9.4)."""
    guess = left + over - corner
    away = abs(guess - left), abs(guess - over), abs(guess - corner)
    if away[0] <= away[1] and away[0] <= away[2]:
        return left
    return over if away[1] <= away[2] else corner
