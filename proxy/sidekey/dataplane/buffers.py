"""Limits of what is kept of a body on its way, in bytes, and how its pieces are kept."""

from typing import Final

WRITE_BUFFER: Final = 512 << 10
"""Unsent bytes of a connection above which nothing more is read for it. With one read, a slow receiver costs no more
than 1 MiB; with less the two sides of a fast transfer wait for each other."""

SMALL: Final = 4 << 10
"""Pieces shorter than this are joined: each object has an overhead, which no limit counts."""


def append_piece(pieces: list[bytes], piece: bytes) -> None:
    """Append a piece of a body, joined with the last piece if both are short."""
    if pieces and len(piece) < SMALL and len(pieces[-1]) < SMALL:
        pieces[-1] += piece
    elif piece:
        pieces.append(piece)
