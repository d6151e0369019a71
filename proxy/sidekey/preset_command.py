"""`sidekey preset`: lists the presets of a config, and sends one. What one would send: preset_preview.py."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sidekey.app import App, run_logged
from sidekey.observe.writer import LineWriter
from sidekey.probe import Outcome, probe_preset
from sidekey.runtime.snapshot import Preset, Snapshot


class PresetCommandError(Exception):
    """The command cannot be done; the message says why and what to do."""


def described(presets: Iterable[Preset]) -> list[dict[str, Any]]:
    """The presets, by ID."""
    return [
        {
            "id": preset.id,
            "integration": preset.rules.integration,
            "method": preset.rules.method.decode(),
            "url": preset.url,
            "content_type": preset.content_type,
            "description": preset.description,
            "tags": list(preset.tags),
            "state": "invalid" if preset.invalid else "ok",
            "reason": preset.invalid or None,
        }
        for preset in sorted(presets, key=lambda each: each.id)
    ]


def lines(presets: Iterable[dict[str, Any]]) -> list[str]:
    """The same for people."""
    rows = [
        (
            each["id"],
            each["integration"],
            f"{each['method']} {each['url']}",
            f"invalid: {each['reason']}" if each["reason"] else each["description"],
        )
        for each in presets
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]


def read_data(data: str | None, preset: Preset) -> bytes:
    """What a caller would send: `@FILE` names a file, `@-` standard input, as for curl. Raises PresetCommandError."""
    if data is None:
        return b"{}" if preset.rules.has_body else b""
    if not data.startswith("@"):
        return data.encode("utf-8", "surrogateescape")
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise PresetCommandError(f"{data[1:]} cannot be read: {error.strerror}") from None


def send(snapshot: Snapshot, preset: Preset, data: bytes) -> Outcome:
    """Send a preset with what a caller would send: a real request, through the data plane of this process."""
    quiet = replace(snapshot, log=replace(snapshot.log, access="off"))
    return run_logged("error", partial(_send, quiet, preset, data))


async def _send(snapshot: Snapshot, preset: Preset, data: bytes, writer: LineWriter) -> Outcome:
    app = App(snapshot, writer)
    app.plane.worker.deadlines.start(asyncio.get_running_loop())
    try:
        return await probe_preset(app.plane, preset, data)
    finally:
        await app.close()
