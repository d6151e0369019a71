"""`sidekey preset`: lists the presets of a config, shows what one sends, and sends it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sidekey.app import App, run_logged
from sidekey.core.parameters import JSON
from sidekey.core.request import RequestHead
from sidekey.errors import Problem
from sidekey.explain import explain
from sidekey.observe.writer import LineWriter
from sidekey.probe import Outcome, probe_preset
from sidekey.runtime.snapshot import Preset, Snapshot
from sidekey.terminal import table

CREDENTIAL = "[credential]"
"""Stands where the credential goes."""


class PresetCommandError(Exception):
    """The command cannot be done; the message says why and what to do."""


def described(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The presets of files and of the store, by ID, also those of the store that are not served."""
    judgements = {} if snapshot.stored is None else snapshot.stored.preset_judgements
    return [_described(snapshot, name) for name in sorted({*snapshot.presets, *judgements})]


def _described(snapshot: Snapshot, name: str) -> dict[str, Any]:
    preset = snapshot.presets.get(name)
    if preset is None or preset.stored:
        state, reason = snapshot.stored_preset(name)
    else:
        state, reason = "invalid" if preset.invalid else "ok", preset.invalid
    usable = preset is not None and bool(preset.url)
    return {
        "id": name,
        "source": "store" if preset is None or preset.stored else "file",
        "integration": preset.rules.integration if preset is not None and usable else None,
        "method": preset.rules.method.decode() if preset is not None and usable else None,
        "url": preset.url if preset is not None and usable else None,
        "content_type": preset.content_type if preset is not None and usable else None,
        "description": "" if preset is None else preset.description,
        "tags": [] if preset is None else list(preset.tags),
        "state": state,
        "reason": reason or None,
    }


def lines(presets: Iterable[dict[str, Any]]) -> list[str]:
    """The same for people."""
    return table(
        [
            (
                each["id"],
                each["integration"] or "-",
                f"{each['method']} {each['url']}" if each["url"] else "-",
                f"{each['state']}: {each['reason']}" if each["reason"] else each["description"],
            )
            for each in presets
        ]
    )


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


@dataclass(frozen=True, slots=True)
class Preview:
    """The request that a preset makes of what a caller sends, or why it makes none. The credential is named alone."""

    preset: Preset
    problem: Problem | None
    method: str = ""
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    credential: Mapping[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        found: dict[str, Any] = {"preset": self.preset.id, "integration": self.preset.rules.integration}
        if self.problem is not None:
            errors = [{"pointer": pointer, "detail": detail} for pointer, detail in self.problem.errors]
            return {**found, "code": self.problem.code, "reason": self.problem.detail, "errors": errors}
        request = {
            "method": self.method,
            "url": self.url,
            "headers": [list(header) for header in self.headers],
            "body": self.body.decode("utf-8", "replace"),
        }
        return {**found, "request": request, "credential": dict(self.credential)}

    def __str__(self) -> str:
        if self.problem is not None:
            errors = [f"{pointer or 'the parameters'}: {detail}" for pointer, detail in self.problem.errors]
            return "\n".join([f"{self.problem.code}: {self.problem.detail}", *errors])
        head = [f"{self.method} {self.url}", *(f"{name}: {value}" for name, value in self.headers)]
        places = "; ".join(f"{place}: {', '.join(names)}" for place, names in self.credential.items())
        body = ["", self.body.decode("utf-8", "replace")] if self.body else []
        return "\n".join([*head, *body, "", f"credential: {places or 'none'}"])


def preview(snapshot: Snapshot, preset: Preset, data: bytes) -> Preview:
    """Fill a preset as a request would, and judge where it goes; nothing is sent."""
    rules = preset.rules
    if preset.invalid:
        return Preview(preset, Problem("credential_unavailable", preset.invalid, error="proxy_configuration_error"))
    integration = snapshot.integrations[rules.integration]
    content_type = JSON if rules.has_body else preset.content_type
    line = f"\r\nContent-Type: {content_type}".encode()
    head = RequestHead(b"POST", b"", b"localhost", [line], [b"content-type"], length=len(data), length_given=True)
    received = rules.receive(head)
    if isinstance(received, Problem):
        return Preview(preset, received)
    if rules.has_body:
        limits = snapshot.limits
        filled = rules.fill(received, data, most=limits.preset_body, longest=limits.target)
        if isinstance(filled, Problem):
            return Preview(preset, filled)
        received, data = filled
    url = received.target.decode()
    judged = explain(integration, url).as_json()
    if not judged["allowed"]:
        return Preview(preset, Problem(judged["code"], judged["reason"]))
    credential = {place: names for place, names in judged["credential"].items() if place != "origin" and names}
    own = [line[2:].decode().partition(": ") for line in received.fields]
    injected = [(name, CREDENTIAL) for name in credential.get("headers", ())]
    headers = (*injected, *((name, value) for name, _, value in own))
    return Preview(preset, None, received.method.decode(), judged["sent_on"], headers, data, credential)


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
