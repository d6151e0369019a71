"""`sidekey explain`: what the policy says of one target, and where the credential would go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sidekey.core.paths import UnreadablePath
from sidekey.core.policy import Decision, Policy, judge, upgrade
from sidekey.core.urls import InvalidTarget, Target, parse_target
from sidekey.settings.snapshot import Integration, Passing

CONNECT_NOTE = (
    "clients send an https:// URL by CONNECT (HTTPS_PROXY), which comes later; until then use the reverse door or "
    "write it as http://, which is upgraded"
)

PASSED_CONNECT_NOTE = (
    "clients send an https:// URL by CONNECT (HTTPS_PROXY), which comes later; without HTTPS_PROXY they ask the host "
    "itself"
)

LEARNT_NOTE = (
    "the base URL here stands for the one that the answer with the token brings; targets are judged again by that one"
)
STAND_IN_NOTE = (
    "the answer of the login names the one host that is allowed then; targets at the login host are moved there and "
    "judged again"
)
BODY_NOTE = "the token needs a form or a JSON object to go into: any other body is credential_unplaceable"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of one target. `sent_on` is what the upstream would be asked; None where it cannot be read.

    `upgraded` says that it became https at the forward door, `passes` that it goes on without a credential.
    """

    integration: Integration
    door: str
    as_sent: str
    sent_on: str | None
    decision: Decision
    upgraded: bool = False
    passes: bool = False
    notes: tuple[str, ...] = ()

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
            "passes": self.passes,
            "code": decision.code or None,
            "reason": decision.reason,
            "rule": decision.rule or None,
            "credential": {"origin": self._origin, **_where(self.integration)} if decision.allowed else None,
            "usable": self.integration.usable,
            "methods": sorted(self.integration.policy.methods) if self.integration.policy.methods else None,
            "profile": dict(self.integration.filled),
            "note": "; ".join(self.notes) or None,
        }

    def __str__(self) -> str:
        decision = self.decision
        rows = [("integration", f"{self.integration.id} ({self.integration.kind})"), ("door", self.door)]
        rows.append(("as sent", self.as_sent))
        if self.sent_on is not None:
            rows.append(("sent on", f"{self.sent_on} (upgraded to https)" if self.upgraded else self.sent_on))
        if self.passes:
            rows += [("passes", decision.reason), ("credential", "stays here")]
            rows += [("note", note) for note in self.notes]
            return _table(rows)
        if decision.allowed:
            rows.append(("allowed", f"by {decision.rule}: {decision.reason}"))
            where = "; ".join(
                f"{place}: {', '.join(names)}" for place, names in _where(self.integration).items() if names
            )
            rows.append(("credential", f"goes to {self._origin or 'the base URL that comes with it'} in {where}"))
        else:
            rows.append(("denied", f"{decision.code}: {decision.reason}"))
            rows.append(("credential", "stays here"))
            rows += [("rule", rule) for rule in _rules(self.integration.policy)]
        for held in (self.integration.secrets, self.integration.certificate):
            if held is not None and held.unreadable is not None:
                rows.append(("unreadable", f"{held.unreadable}; until then the answer is credential_unavailable"))
        if self.integration.policy.methods is not None:
            rows.append(("methods", ", ".join(sorted(self.integration.policy.methods))))
        rows += [("profile", f"{key}: {value}") for key, value in self.integration.filled]
        rows += [("note", note) for note in self.notes]
        return _table(rows)

    @property
    def _origin(self) -> str | None:
        """Where the credential would go; None where only the answer with it tells."""
        target = self.decision.target
        if target is None or LEARNT_NOTE in self.notes or target.origin == self.integration.policy.stand_in:
            return None
        return str(target.origin)


def explain(integration: Integration, url: str, passing: Passing | None = None) -> Explanation:
    """Judge `url`: an absolute URL as at the forward door, or what follows `/i/ID` at the reverse door.

    `passing` is the snapshot's.
    """
    reverse = url.startswith(("/", "?")) or not url
    if integration.rebuild is not None:
        decision = Decision(False, "credential_unavailable", "what decides where the credential may go cannot be read")
        as_sent = f"/i/{integration.id}{url}" if reverse else url
        return Explanation(integration, "reverse" if reverse else "forward", as_sent, None, decision)
    if reverse:
        return _reverse(integration, url)
    return _passed(integration, url, passing) or _forward(integration, url)


def _reverse(integration: Integration, rest: str) -> Explanation:
    as_sent = f"/i/{integration.id}{rest}"
    url = f"{integration.base}{rest}"
    try:
        target = parse_target(url)
    except InvalidTarget as fault:
        return Explanation(integration, "reverse", as_sent, None, _unreadable(fault))
    notes = [LEARNT_NOTE] if integration.traits.learns else []
    decision = _judge(integration.policy, target)
    return Explanation(integration, "reverse", as_sent, _show(target), decision, notes=_notes(integration, notes))


def _passed(integration: Integration, url: str, passing: Passing | None) -> Explanation | None:
    """What becomes of a target that no integration covers, where such targets pass; None for every other."""
    if passing is None:
        return None
    try:
        target = parse_target(url)
    except InvalidTarget:
        return None
    if passing.coverage.covers(target.origin.host):
        return None
    if passing.undecided:
        reason = f"what {', '.join(sorted(passing.undecided))} covers cannot be read; until then nothing passes"
        return Explanation(integration, "forward", url, None, Decision(False, "credential_unavailable", reason))
    if target.origin.host.endswith("."):
        return None
    reason = "no integration covers this host (forward.unmatched): it goes on as it came"
    notes = (PASSED_CONNECT_NOTE,) if target.origin.scheme == "https" else ()
    return Explanation(
        integration, "forward", url, _show(target), Decision(False, "", reason, target), passes=True, notes=notes
    )


def _forward(integration: Integration, url: str) -> Explanation:
    try:
        sent = parse_target(url)
    except InvalidTarget as fault:
        return Explanation(integration, "forward", url, None, _unreadable(fault))
    target = upgrade(integration.policy, sent)
    notes = [CONNECT_NOTE] if sent.origin.scheme == "https" else []
    if integration.policy.stand_in is not None:
        notes.append(STAND_IN_NOTE)
    decision = _judge(integration.policy, target)
    notes_of_all = _notes(integration, notes)
    return Explanation(integration, "forward", url, _show(target), decision, target != sent, notes=notes_of_all)


def _notes(integration: Integration, of_the_door: list[str]) -> tuple[str, ...]:
    return (*of_the_door, BODY_NOTE) if integration.traits.places.body else tuple(of_the_door)


def _judge(policy: Policy, target: Target) -> Decision:
    try:
        return judge(policy, target)
    except UnreadablePath as fault:
        return _unreadable(fault)


def _unreadable(fault: Exception) -> Decision:
    return Decision(False, "request_invalid", str(fault))


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<12} {text}" for name, text in rows)


def _show(target: Target) -> str:
    return f"{target.origin}{target.request_target}"


def _where(integration: Integration) -> dict[str, list[str]]:
    """What the credential stands in, by name alone."""
    places = integration.traits.places
    found = {"headers": list(places.headers), "query": list(places.query), "body": list(places.body)}
    return found if integration.certificate is None else {**found, "handshake": ["client certificate"]}


def _rules(policy: Policy) -> list[str]:
    prefixes = [f"the target lies under {prefix}" for prefix in policy.prefixes]
    domains = [f"the target is at {domain}" for domain in policy.domains]
    below = [f"the target lies under {policy.path}"] if policy.path else []
    never = [f"the target is not {forbidden}" for forbidden in policy.forbidden]
    return prefixes + domains + below + never
