"""Makes pages of templates, all of them escaped. Called in a thread."""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

_HERE: Final = Path(__file__).parent
_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Static:
    """A file of the package that pages refer to by a name with its digest, so that browsers may keep it."""

    def __init__(self, path: Path) -> None:
        self.body: Final = path.read_bytes()
        self.compressed: Final = gzip.compress(self.body, 9, mtime=0)
        self.content_type: Final = _TYPES[path.suffix]
        self.name: Final = f"{path.stem}-{hashlib.sha256(self.body).hexdigest()[:12]}{path.suffix}"


class Renderer:
    """The templates, and the files that pages refer to."""

    def __init__(self) -> None:
        found = {path.name: Static(path) for path in (_HERE / "static").iterdir() if path.suffix in _TYPES}
        self.static: Final = {each.name: each for each in found.values()}
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
            auto_reload=False,
        )
        self._environment.globals["static"] = {name: f"/static/{each.name}" for name, each in found.items()}
        self._environment.filters["coded"] = coded
        self._environment.filters["day"] = day
        self._environment.filters["ago"] = ago
        self._environment.filters["since"] = since
        for name in ("parts", "fields"):
            self._environment.globals[name] = self._environment.get_template(f"{name}.html").module

    def page(self, template: str, values: Mapping[str, Any]) -> bytes:
        """A page, in UTF-8."""
        return self._environment.get_template(template).render(values).encode()


@cache
def renderer() -> Renderer:
    """The one of this process."""
    return Renderer()


def coded(text: str) -> Markup:
    """A text of ours with what stands in backticks as code, escaped."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def day(instant: str | None) -> str:
    """`3 November 2026` of a time as the API says it."""
    if instant is None:
        return ""
    moment = datetime.fromisoformat(instant)
    return f"{moment.day} {moment:%B %Y}"


def ago(instant: str | None) -> str:
    """How long ago a time was, in its largest unit."""
    if instant is None:
        return "never"
    return since(datetime.fromisoformat(instant).timestamp())


def since(moment: float) -> str:
    """How long ago a moment was, in seconds since the epoch, in its largest unit."""
    seconds = max(0, int(time.time() - moment))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
