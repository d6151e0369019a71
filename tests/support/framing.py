"""Heads of responses, and bodies in chunked coding."""

from __future__ import annotations


def response_head(*fields: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """Build the head of a response."""
    return "\r\n".join([f"HTTP/{version} {status}", *fields, "", ""]).encode("latin-1")


def chunks(*pieces: bytes, extension: bytes = b"") -> bytes:
    """Build a body with these chunks."""
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension if piece else b"", piece) for piece in (*pieces, b""))


def chunked(body: bytes, size: int = 1 << 20) -> bytes:
    """Build a body in chunks of this size."""
    return chunks(*(body[at : at + size] for at in range(0, len(body), size)))
