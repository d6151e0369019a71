"""How much of a body is held on its way, in bytes: the same in both directions."""

from typing import Final

BYPASS: Final = 64 << 10
"""A Content-Length body with more than this to come is passed on without the parser."""

BULK: Final = 512 << 10
"""One with more than this to come is received in reads of as much; others are at most 256 KiB."""

WRITE_BUFFER: Final = 512 << 10
"""Unsent bytes of a connection above which nothing more is read for it. With one read, a slow receiver costs no more
than 1 MiB; with less the two sides of a fast transfer wait for each other."""
