"""`sidekey explain`: what the policy says of one target, and where the credential would go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidekey.core.paths import UnreadablePath
from sidekey.core.policy import Decision, Policy, judge, upgrade
from sidekey.core.urls import InvalidTarget, Target, parse_target
from sidekey.settings.snapshot import Integration

CONNECT_NOTE = (
    "clients send an https:// URL by CONNECT (HTTPS_PROXY), which comes later; until then use the reverse door or "
    "write it as http://, which is upgraded"
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of one target. `sent_on` is what the upstream would be asked; None where it cannot be read.

    `upgraded` says that it became https at the forward door. `headers` are names alone; None where the secrets cannot
    be read now.
    """

    integration: Integration
    door: str
    as_sent: str
    sent_on: str | None
    decision: Decision
    headers: tuple[str, ...] | None
    upgraded: bool = False
    note: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether the credential would leave for this target."""
        return self.decision.allowed

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        decision = self.decision
        return {
            "integration": self.integration.id,
            "kind": self.integration.kind,
            "door": self.door,
            "as_sent": self.as_sent,
            "sent_on": self.sent_on,
            "upgraded": self.upgraded,
            "allowed": decision.allowed,
            "code": decision.code or None,
            "reason": decision.reason,
            "rule": decision.rule or None,
            "credential": {"origin": self._origin, "headers": self.headers} if decision.allowed else None,
            "methods": sorted(self.integration.policy.methods) if self.integration.policy.methods else None,
            "note": self.note,
        }

    def __str__(self) -> str:
        decision = self.decision
        rows = [("integration", f"{self.integration.id} ({self.integration.kind})"), ("door", self.door)]
        rows.append(("as sent", self.as_sent))
        if self.sent_on is not None:
            rows.append(("sent on", f"{self.sent_on} (upgraded to https)" if self.upgraded else self.sent_on))
        if decision.allowed:
            rows.append(("allowed", f"by {decision.rule}: {decision.reason}"))
            rows.append(("credential", f"goes to {self._origin} in {self._where()}"))
        else:
            rows.append(("denied", f"{decision.code}: {decision.reason}"))
            rows.append(("credential", "stays here"))
            rows += [("rule", rule) for rule in _rules(self.integration.policy)]
        if self.integration.policy.methods is not None:
            rows.append(("methods", ", ".join(sorted(self.integration.policy.methods))))
        if self.note is not None:
            rows.append(("note", self.note))
        return "\n".join(f"{name:<12} {text}" for name, text in rows)

    @property
    def _origin(self) -> str | None:
        return str(self.decision.target.origin) if self.decision.target is not None else None

    def _where(self) -> str:
        if self.headers is None:
            return "headers that are known once its secrets can be read (see sidekey check)"
        return ", ".join(self.headers)


def explain(integration: Integration, url: str) -> Explanation:
    """Judge `url`: an absolute URL as at the forward door, or what follows `/i/ID` at the reverse door."""
    grant = integration.source.grant
    headers = None if grant is None else tuple(name for name, _ in grant.headers)
    if url.startswith(("/", "?")) or not url:
        return _reverse(integration, url, headers)
    return _forward(integration, url, headers)


def _reverse(integration: Integration, rest: str, headers: tuple[str, ...] | None) -> Explanation:
    as_sent = f"/i/{integration.id}{rest}"
    if integration.base is None:
        unknown = Decision(False, "target_denied", "the integration has no base URL for the reverse door yet")
        return Explanation(integration, "reverse", as_sent, None, unknown, headers)
    url = f"{integration.base}{rest}"
    try:
        target = parse_target(url)
    except InvalidTarget as fault:
        return Explanation(integration, "reverse", as_sent, None, _unreadable(fault), headers)
    return Explanation(integration, "reverse", as_sent, _show(target), _judge(integration.policy, target), headers)


def _forward(integration: Integration, url: str, headers: tuple[str, ...] | None) -> Explanation:
    try:
        sent = parse_target(url)
    except InvalidTarget as fault:
        return Explanation(integration, "forward", url, None, _unreadable(fault), headers)
    target = upgrade(integration.policy, sent)
    note = CONNECT_NOTE if sent.origin.scheme == "https" else None
    decision = _judge(integration.policy, target)
    return Explanation(integration, "forward", url, _show(target), decision, headers, target != sent, note)


def _judge(policy: Policy, target: Target) -> Decision:
    try:
        return judge(policy, target)
    except UnreadablePath as fault:
        return _unreadable(fault)


def _unreadable(fault: Exception) -> Decision:
    return Decision(False, "request_invalid", str(fault))


def _show(target: Target) -> str:
    return f"{target.origin}{target.request_target}"


def _rules(policy: Policy) -> list[str]:
    prefixes = [f"the target lies under {prefix}" for prefix in policy.prefixes]
    return prefixes + [f"the target is at {domain}" for domain in policy.domains]
