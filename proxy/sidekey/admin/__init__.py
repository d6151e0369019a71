"""The admin and the metrics listener, on aiohttp.

aiohttp is imported here, before a module of this package imports it, and without its client, nor types of files, of
which it serves none: an idle process takes 6 MB less.
"""

from __future__ import annotations

import mimetypes

from sidekey.lean_imports import defer_package, set_while_importing

# It would read the system's lists of types, which are thousands.
mimetypes.knownfiles.clear()

# Nothing here connects by its client, or may. The version would be told in `Server`, which is set otherwise.
defer_package("aiohttp", __version__="")

# Of all extensions only frozenlist's is written in C++. It would load libstdc++ for lists of a few handlers.
with set_while_importing({"FROZENLIST_NO_EXTENSIONS": "1"}):
    import aiohttp.web  # noqa: F401
