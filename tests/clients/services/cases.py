"""Cases of the Python services, which read `BASE FILE CASE...` and print a line for each result."""

import hashlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

BASE, FILE, *CASES = sys.argv[1:]
SMALL = b"a small body"
LARGE = Path(FILE)


def digest(pieces: Iterable[bytes]) -> str:
    """Return the SHA-256 of a body, in hexadecimal."""
    checksum = hashlib.sha256()
    for piece in pieces:
        checksum.update(piece)
    return checksum.hexdigest()


def run(**cases: Callable[[], str | Iterable[str]]) -> None:
    """Print "CASE RESULT"; each result of several at once, as it arrives."""
    for name in CASES:
        result = cases[name]()
        for line in [result] if isinstance(result, str) else result:
            print(name, line, flush=True)


def events(lines: Iterable[bytes | str]) -> Iterable[str]:
    """The data of server-sent events."""
    for line in lines:
        text = line.decode() if isinstance(line, bytes) else line
        if text.startswith("data: "):
            yield text[6:].rstrip("\n")
