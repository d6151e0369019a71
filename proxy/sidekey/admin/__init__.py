"""The admin and the metrics listener, on aiohttp.

aiohttp is imported here, before a module of this package imports it, and without what only its client needs, nor types
of files, of which it serves none: an idle process takes 4 MB less (docs/decisions/0029).
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping
from typing import Final

from sidekey.import_variables import set_while_importing

_WHILE_IMPORTING: Final[Mapping[str, str]] = {
    # Of all extensions only frozenlist's is written in C++. It would load libstdc++ for lists of a few handlers.
    "FROZENLIST_NO_EXTENSIONS": "1",
    # The client's default TLS context would hold the system's CAs. Nothing here connects by it, or may.
    "SSL_CERT_FILE": os.devnull,
}

# It would read the system's lists of types, which are thousands.
mimetypes.knownfiles.clear()

with set_while_importing(_WHILE_IMPORTING):
    import aiohttp.web  # noqa: F401
