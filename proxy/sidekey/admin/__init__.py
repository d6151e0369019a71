"""The admin and the metrics listener, on aiohttp.

aiohttp is imported here, before a module of this package imports it, and without what only its client needs: an idle
process takes 3.5 MB less (docs/decisions/0029).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

_WHILE_IMPORTING: Final[Mapping[str, str]] = {
    # Of all extensions only frozenlist's is written in C++. It would load libstdc++ for lists of a few handlers.
    "FROZENLIST_NO_EXTENSIONS": "1",
    # The client's default TLS context would hold the system's CAs. Nothing here connects by it, or may.
    "SSL_CERT_FILE": os.devnull,
}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while: no thread runs yet where this is imported."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _environment(_WHILE_IMPORTING):
    import aiohttp.web  # noqa: F401
