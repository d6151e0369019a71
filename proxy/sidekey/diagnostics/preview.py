"""Preview the request that a preset sends, without sending it. `[credential]` replaces the credential."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidekey.diagnostics.explain import explain
from sidekey.errors import Problem
from sidekey.policy.messages import RequestHead
from sidekey.presets.preset import PARAMETERS_TOO_LARGE, FilledRequest
from sidekey.snapshot.snapshot import Preset, Snapshot

CREDENTIAL: Final = "[credential]"
"""Replaces the credential in a preview."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The request that a preset sends for a payload, or the problem. `credential` lists the names that contain it."""

    preset: Preset
    problem: Problem | None
    method: str = ""
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    credential: Mapping[str, list[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return JSON-serializable members."""
        subject: dict[str, Any] = {"preset": self.preset.id, "integration": self.preset.rules.integration}
        if self.problem is not None:
            errors = [{"pointer": pointer, "detail": detail} for pointer, detail in self.problem.errors]
            return {**subject, "code": self.problem.code, "reason": self.problem.detail, "errors": errors}
        request = {
            "method": self.method,
            "url": self.url,
            "headers": [list(header) for header in self.headers],
            "body": self.body.decode("utf-8", "replace"),
        }
        return {**subject, "request": request, "credential": dict(self.credential)}

    def __str__(self) -> str:
        if self.problem is not None:
            errors = [f"{pointer or 'the parameters'}: {detail}" for pointer, detail in self.problem.errors]
            return "\n".join([f"{self.problem.code}: {self.problem.detail}", *errors])
        head = [f"{self.method} {self.url}", *(f"{name}: {value}" for name, value in self.headers)]
        places = "; ".join(f"{part}: {', '.join(names)}" for part, names in self.credential.items())
        body = ["", self.body.decode("utf-8", "replace")] if self.body else []
        return "\n".join([*head, *body, "", f"credential: {places or 'none'}"])


def preview(snapshot: Snapshot, preset: Preset, data: bytes, content_type: str = "") -> Preview:
    """Fill a preset and check its target, without sending the request. The parameters are those of `fill_preset`."""
    if preset.invalid:
        return Preview(preset, Problem("credential_unavailable", preset.invalid, error="proxy_configuration_error"))
    request = fill_preset(snapshot, preset, data, content_type)
    if isinstance(request, Problem):
        return Preview(preset, request)
    head = request.head
    explanation = explain(snapshot.integrations[preset.rules.integration], head.target.decode())
    members, decision = explanation.as_json(), explanation.decision
    if not decision.allowed:
        return Preview(preset, Problem(decision.code, decision.reason, denial=decision.denial))
    credential = {part: names for part, names in members["credential"].items() if part != "origin" and names}
    fields = [line[2:].decode().partition(": ") for line in head.fields]
    injected = [(name, CREDENTIAL) for name in credential.get("headers", ())]
    headers = (*injected, *((name, value) for name, _, value in fields))
    return Preview(preset, None, head.method.decode(), members["sent_on"], headers, request.body, credential)


def fill_preset(snapshot: Snapshot, preset: Preset, data: bytes, content_type: str = "") -> FilledRequest | Problem:
    """Build the request that a preset sends for a payload. `content_type` defaults to the one that it requires."""
    rules, limits = preset.rules, snapshot.limits
    line = f"\r\nContent-Type: {content_type or preset.accepts}".encode()
    head = RequestHead(b"POST", b"", b"localhost", [line], [b"content-type"], length=len(data), has_content_length=True)
    received = rules.build_head(head)
    if isinstance(received, Problem):
        return received
    if not rules.has_body:
        return FilledRequest(received, data)
    if len(data) > limits.preset_parameters:
        return PARAMETERS_TOO_LARGE
    return rules.fill(received, data, max_body=limits.preset_body, max_target=limits.target)
