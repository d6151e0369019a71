"""Decide on requests that use a preset: `POST /p/ID`.

A caller needs permission for the preset only. The preset has the integration, the method and the target, which
`policy.decide` checks like those of any request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol, TypeVar

from sidekey.errors import Problem
from sidekey.policy.callers import Callers
from sidekey.policy.decide import apply_rules
from sidekey.policy.decision import Admitted, Denied
from sidekey.policy.identifiers import InvalidIdentifiers, parse_proxy_authorization, preset_id, single_value
from sidekey.policy.identify import authenticate
from sidekey.policy.integration_rules import Candidate
from sidekey.policy.listener import check_browser, check_loop
from sidekey.policy.messages import RequestHead
from sidekey.policy.routes import Routes
from sidekey.policy.urls import Target
from sidekey.presets.preset import METHOD, PresetRules

C = TypeVar("C", bound=Candidate)
C_co = TypeVar("C_co", bound=Candidate, covariant=True)

_UNKNOWN_PRESET: Final = Problem("preset_denied", "there is no such preset for this caller", denial="preset_unknown")
# For every ID that the caller may not use, existing or not: metrics must not reveal IDs of other callers' presets.
_UNLISTED_PRESET: Final = replace(_UNKNOWN_PRESET, denial="preset_unlisted")
_POST_ONLY: Final = Problem(
    "method_denied", "use POST for presets", headers=(("Allow", METHOD.decode()),), denial="method_of_preset"
)


class PresetRoutes(Routes[C_co], Protocol[C_co]):
    """The integrations and presets of this process."""

    def find_preset(self, name: bytes) -> PresetRules | Problem | None:
        """Return the preset of this ID, or a Problem if it cannot be used now."""
        ...


class PresetAdmitted(Admitted[C_co]):
    """An admitted request to a preset. `head` is the head to send.

    `target` is also None if the preset's URL has placeholders. Then Sidekey decides again once it has filled them.
    """

    __slots__ = ("head", "preset")

    def __init__(  # noqa: PLR0917 - built once per request on the hot path, where keywords cost
        self, candidate: C_co, target: Target | None, rule: str, caller: str, preset: PresetRules, head: RequestHead
    ) -> None:
        super().__init__(candidate, target, rule, caller)
        self.preset: Final = preset
        self.head: Final = head


def decide_preset(
    head: RequestHead,
    callers: Callers | None,
    routes: PresetRoutes[C],
    *,
    awaits_store: bool = False,
) -> PresetAdmitted[C] | Denied[C]:
    """Decide on a request to a preset. The parameters are those of `policy.decide.decide`."""
    try:
        decision = _decide(head, callers, routes)
    except InvalidIdentifiers as error:
        return Denied(Problem("request_invalid", str(error), denial="names_differ"))
    return decision.until_store_read() if awaits_store and isinstance(decision, Denied) else decision


def _decide(head: RequestHead, callers: Callers | None, routes: PresetRoutes[C]) -> PresetAdmitted[C] | Denied[C]:
    if (problem := check_browser(head, callers, routes)) is not None:
        return Denied(problem)
    proxy_user = parse_proxy_authorization(head.proxy_authorization)
    caller = authenticate(head, callers, proxy_user)
    if isinstance(caller, Problem):
        return Denied(caller)
    name = preset_id(head.target)
    id_ = name.decode("latin-1")
    caller_name = "" if caller is None else caller.name
    if caller is not None and not caller.may_send(id_):
        return Denied(_UNLISTED_PRESET, caller=caller_name)
    preset = routes.find_preset(name)
    if preset is None:
        return Denied(_UNKNOWN_PRESET, caller=caller_name)
    if isinstance(preset, Problem):
        return Denied(preset, preset=id_, caller=caller_name)
    # A request that also names an integration must name the preset's.
    single_value(preset.integration.encode(), head.integration_id, proxy_user.integration)
    if head.method != METHOD:
        return Denied(_POST_ONLY, preset=id_, caller=caller_name)
    return apply_preset(preset, head, routes, caller_name)


def apply_preset(
    preset: PresetRules, head: RequestHead, routes: PresetRoutes[C], caller: str = ""
) -> PresetAdmitted[C] | Denied[C]:
    """Apply a preset to the request of a permitted caller, and decide on the resulting request."""
    candidate = routes.find(preset.integration.encode())
    if candidate is None:
        return Denied(_UNKNOWN_PRESET, caller=caller)
    if (problem := check_loop(head, routes)) is not None:
        return Denied(problem, candidate, preset=preset.id, caller=caller)
    outgoing = preset.build_head(head, candidate.rules.caller_fields)
    if isinstance(outgoing, Problem):
        return Denied(outgoing, candidate, preset=preset.id, caller=caller)
    if preset.fixed_url is None:
        return PresetAdmitted(candidate, None, "", caller, preset, outgoing)
    decision = apply_rules(outgoing, candidate)
    if isinstance(decision, Denied):
        return Denied(decision.problem, candidate, preset=preset.id, caller=caller)
    return PresetAdmitted(candidate, decision.target, decision.rule, caller, preset, outgoing)
