"""Presets as a config has them, and requests to them."""

from __future__ import annotations

from typing import Any

from sidekey.config.build.presets import parse_preset
from sidekey.snapshot.snapshot import Preset
from support.plane import base_url

JSON = "Content-Type: application/json"


def document(url: str = base_url(1, "/api/hook"), **keys: Any) -> dict[str, Any]:
    """Build the document of a preset of integration `h`. Without a body, it takes JSON payloads."""
    settings = {"content_type": None if "body" in keys else "application/json", **keys}
    return {"integration": "h", "url": url, **{key: value for key, value in settings.items() if value is not None}}


def preset(name: str = "hook", url: str = base_url(1, "/api/hook"), **keys: Any) -> Preset:
    """Build a preset of integration `h`."""
    result = parse_preset(name, document(url, **keys))
    assert result.errors == ()
    assert result.preset is not None
    return result.preset


def refused(**keys: Any) -> list[tuple[str, str]]:
    """Return the locations and messages of all errors of a preset."""
    return [(".".join(map(str, error.loc)), error.message) for error in parse_preset("hook", document(**keys)).errors]


def post(body: bytes, *fields: str, name: str = "hook", method: str = "POST", framing: str = "") -> bytes:
    """Build a request to a preset, with a JSON body if no Content-Type is given."""
    if not any(field.lower().startswith("content-type") for field in fields):
        fields = (JSON, *fields)
    lines = [f"{method} /p/{name} HTTP/1.1", "Host: 127.0.0.1", *fields, framing or f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
