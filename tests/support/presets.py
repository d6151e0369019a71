"""Presets of documents, as a config has them, and requests by them."""

from __future__ import annotations

from typing import Any

from sidekey.runtime.snapshot import Preset
from sidekey.settings.presets import read_preset
from support.plane import base_url

JSON = "Content-Type: application/json"


def preset(name: str = "hook", url: str = base_url(1, "/api/hook"), **keys: Any) -> Preset:
    """A preset of integration `h`; of JSON, where nothing else is said."""
    document = {"integration": "h", "url": url, "content_type": "application/json", **keys}
    found = read_preset(name, document)
    assert found.errors == ()
    assert found.preset is not None
    return found.preset


def refused(**keys: Any) -> list[tuple[str, str]]:
    """What is wrong with a preset: places and messages."""
    document = {"integration": "h", "url": base_url(1, "/api/hook"), "content_type": "application/json", **keys}
    return [(".".join(map(str, each.loc)), each.message) for each in read_preset("hook", document).errors]


def post(body: bytes, *fields: str, name: str = "hook", method: str = "POST", framing: str = "") -> bytes:
    """A request by a preset, with a body of JSON where no Content-Type is given."""
    if not any(field.lower().startswith("content-type") for field in fields):
        fields = (JSON, *fields)
    lines = [f"{method} /p/{name} HTTP/1.1", "Host: 127.0.0.1", *fields, framing or f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
