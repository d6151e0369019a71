"""The console's pages: static files below `/ui`, read once when Sidekey starts."""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import hdrs, web
from prometheus_client.exposition import gzip_accepted

PREFIX: Final = "/ui"

ASSETS: Final = f"{PREFIX}/assets/"

FOLDER: Final = Path(__file__).parent / "static"

_BOOKMARKS: Final = "/{path:(?:(?:login|add|integrations|presets|access|activity)(?:/(?s:.*))?)?}"
"""`/`, and the paths of an earlier console, which people may have bookmarked."""

_INDEX: Final = "index.html"

_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_IMPORT: Final = re.compile(r'^(?:import|export)\b[^"();]*"(\.[^"]+)";', re.MULTILINE)
"""A static import. Modules of the console use relative paths in double quotes only."""


class _File(NamedTuple):
    """A file, as it is and compressed with gzip."""

    content_type: str
    body: bytes
    compressed: bytes


class StaticPages:
    """Serves `index.html` for every page, and the assets below a path with a hash of all files.

    One hash for all files lets modules import each other by relative path. An open page survives an upgrade, which
    changes the hash, because it has already loaded all its modules.
    """

    def __init__(self) -> None:
        paths = sorted(path for path in FOLDER.rglob("*") if path.suffix in _TYPES)
        files = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in paths}
        digest = hashlib.sha256()
        for name, body in files.items():
            digest.update(b"%d %s %d\n" % (len(name), name.encode(), len(body)) + body)
        self._hash: Final = digest.hexdigest()[:16]
        links = "\n".join(
            f'<link rel="modulepreload" href="{ASSETS}{self._hash}/{name}">' for name in _imports(files, "main.js")
        )
        index = files.pop(_INDEX).decode().replace("{hash}", self._hash).replace("{preload}", links)
        self._index: Final = _file(_INDEX, index.encode())
        self._assets: Final = {name: _file(name, body) for name, body in files.items()}

    def add_to(self, app: web.Application) -> None:
        """Add the routes. `(?s:.*)` matches newlines too, because aiohttp matches decoded paths."""
        app.router.add_get(f"{ASSETS}{{hash:[^/]*}}/{{name:(?s:.*)}}", self._asset)
        app.router.add_get(f"{PREFIX}{{path:(?:/(?s:.*))?}}", self._page)
        app.router.add_get(_BOOKMARKS, self._redirect)

    async def _redirect(self, _: web.Request) -> web.Response:
        return web.Response(
            status=302, headers={**_HEADERS, hdrs.LOCATION: f"{PREFIX}/", hdrs.CACHE_CONTROL: "no-cache"}
        )

    async def _page(self, request: web.Request) -> web.Response:
        if request.path.startswith(ASSETS):
            return _not_found()
        return _response(request, self._index, "no-cache")

    async def _asset(self, request: web.Request) -> web.Response:
        file = self._assets.get(request.match_info["name"]) if request.match_info["hash"] == self._hash else None
        return _not_found() if file is None else _response(request, file, "public, max-age=31536000, immutable")


def _imports(files: Mapping[str, bytes], first: str) -> list[str]:
    """Return all modules that `first` imports, also indirectly, so that the browser fetches them at once."""
    names = [first]
    # The loop also visits the names that it appends.
    for name in names:
        for path in _IMPORT.findall(files[name].decode()):
            imported = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            if imported not in names:
                names.append(imported)
    return names[1:]


def _file(name: str, body: bytes) -> _File:
    return _File(_TYPES[Path(name).suffix], body, gzip.compress(body, 9, mtime=0))


def _response(request: web.Request, file: _File, cache: str) -> web.Response:
    headers = {
        **_HEADERS,
        hdrs.CACHE_CONTROL: cache,
        hdrs.CONTENT_TYPE: file.content_type,
        hdrs.VARY: hdrs.ACCEPT_ENCODING,
    }
    body = file.body
    if gzip_accepted(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        body = file.compressed
    return web.Response(body=body, headers=headers)


def _not_found() -> web.Response:
    """Return 404 for an unknown asset, or one of another version."""
    return web.Response(
        status=404,
        text="no such file in this version of the console\n",
        headers={**_HEADERS, hdrs.CACHE_CONTROL: "no-store"},
    )
