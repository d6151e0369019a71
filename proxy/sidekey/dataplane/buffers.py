"""Limits of buffered bytes, and the pieces of a buffered body."""

from typing import Final

WRITE_BUFFER: Final = 512 << 10
"""Unsent bytes of a connection above which Sidekey pauses reading for it. With one more read, a slow receiver costs at
most 1 MiB. With a lower limit, the two sides of a fast transfer would wait for each other."""

SMALL: Final = 4 << 10
"""Pieces shorter than this are joined, because no limit counts the overhead of an object."""


def append_piece(pieces: list[bytes], piece: bytes) -> None:
    """Append a piece of a body, joined with the last piece if both are short."""
    if pieces and len(piece) < SMALL and len(pieces[-1]) < SMALL:
        pieces[-1] += piece
    elif piece:
        pieces.append(piece)
