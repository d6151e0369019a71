"""Makes pages of templates, all of them escaped. Called in a thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sidekey.admin.console.static_files import files
from sidekey.admin.console.words import line_of

_TEMPLATES: Final = Path(__file__).parent / "templates"


class Renderer:
    """The templates."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
            auto_reload=False,
        )
        self._environment.globals["static"] = {each.written_as: f"/static/{name}" for name, each in files().items()}
        self._environment.filters["coded"] = coded
        self._environment.filters["day"] = day
        self._environment.filters["ago"] = ago
        self._environment.filters["clock"] = clock
        self._environment.filters["line"] = line_of
        self._environment.filters["since"] = since
        self._environment.globals["parts"] = self._environment.get_template("parts.html").module

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


def clock(moment: float) -> str:
    """`3 November, 09:42:07 UTC` of seconds since the epoch."""
    at = datetime.fromtimestamp(moment, UTC)
    return f"{at.day} {at:%B, %H:%M:%S} UTC"


def since(moment: float) -> str:
    """How long ago a moment was, in seconds since the epoch, in its largest unit."""
    seconds = max(0, int(time.time() - moment))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
