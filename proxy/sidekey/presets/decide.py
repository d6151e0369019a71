"""Decide on requests that use a preset: `POST /p/ID`.

A caller needs permission for the preset only. The preset has the integration, the method and the target, which
`policy.decide` checks like those of any request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from sidekey.errors import Problem
from sidekey.policy import naming
from sidekey.policy.callers import Caller
from sidekey.policy.decide import LOOP, Admitted, Candidate, Denied, Routes, authenticate, check_browser, judge
from sidekey.policy.headers import Role
from sidekey.policy.messages import RequestHead
from sidekey.policy.urls import Target
from sidekey.presets.preset import METHOD, Preset

C = TypeVar("C", bound=Candidate)
C_co = TypeVar("C_co", bound=Candidate, covariant=True)

_NO_PRESET: Final = Problem("preset_denied", "there is no such preset for this caller", denial="preset_unknown")
# For every ID that the caller may not use, existing or not: metrics must not reveal IDs of other callers' presets.
_NOT_ITS_PRESET: Final = replace(_NO_PRESET, denial="preset_unlisted")
_POST_ONLY: Final = Problem(
    "method_denied", "use POST for presets", headers=(("Allow", METHOD.decode()),), denial="method_of_preset"
)


class PresetRoutes(Routes[C_co], Protocol[C_co]):
    """The integrations and presets of this process."""

    def find_preset(self, name: bytes) -> Preset | Problem | None:
        """Return the preset of this ID, or a Problem if it cannot be used now."""
        ...


class PresetAdmitted(Admitted[C_co]):
    """An admitted request to a preset. `head` is the head to send.

    `target` is also None if the preset's URL has placeholders, until they are filled.
    """

    __slots__ = ("head", "preset")

    def __init__(  # noqa: PLR0917 - built once per request on the hot path, where keywords cost
        self, candidate: C_co, target: Target | None, rule: str, caller: str, preset: Preset, head: RequestHead
    ) -> None:
        super().__init__(candidate, target, rule, caller)
        self.preset: Final = preset
        self.head: Final = head


def decide_preset(
    head: RequestHead,
    callers: Mapping[bytes, Caller] | None,
    routes: PresetRoutes[C],
    *,
    awaits_store: bool = False,
) -> PresetAdmitted[C] | Denied[C]:
    """Decide on a request to a preset. The parameters are those of `policy.decide.decide`."""
    try:
        decision = _decide(head, callers, routes)
    except naming.InvalidNaming as error:
        return Denied(Problem("request_invalid", str(error), denial="names_differ"))
    return decision.until_store_read() if awaits_store and isinstance(decision, Denied) else decision


def _decide(
    head: RequestHead, callers: Mapping[bytes, Caller] | None, routes: PresetRoutes[C]
) -> PresetAdmitted[C] | Denied[C]:
    if (problem := check_browser(head, callers, routes)) is not None:
        return Denied(problem)
    written = head.proxy_authorization
    user = naming.NO_NAMING if written is None else naming.parse_proxy_authorization(written)
    caller = authenticate(head, callers, user)
    if isinstance(caller, Problem):
        return Denied(caller)
    id_ = naming.preset_id(head.target)
    preset_id = id_.decode("latin-1")
    caller_name = "" if caller is None else caller.name
    if caller is not None and not caller.may_send(preset_id):
        return Denied(_NOT_ITS_PRESET, caller=caller_name)
    preset = routes.find_preset(id_)
    if preset is None:
        return Denied(_NO_PRESET, caller=caller_name)
    if isinstance(preset, Problem):
        return Denied(preset, preset=preset_id, caller=caller_name)
    # A request that also names an integration must name the preset's.
    naming.single_value(preset.integration.encode(), head.integration_id, user.integration)
    if head.method != METHOD:
        return Denied(_POST_ONLY, preset=preset_id, caller=caller_name)
    return apply_preset(preset, head, routes, caller_name)


def apply_preset(
    preset: Preset, head: RequestHead, routes: PresetRoutes[C], caller: str = ""
) -> PresetAdmitted[C] | Denied[C]:
    """Apply a preset to the request of a permitted caller, and decide on the resulting request."""
    candidate = routes.find(preset.integration.encode())
    if candidate is None:
        return Denied(_NO_PRESET, caller=caller)
    if naming.is_loop(head.mark(Role.VIA) or b"", routes.instance):
        return Denied(LOOP, candidate, preset=preset.id, caller=caller)
    outgoing = preset.receive(head, candidate.rules.caller_fields)
    if isinstance(outgoing, Problem):
        return Denied(outgoing, candidate, preset=preset.id, caller=caller)
    if preset.url is None:
        return PresetAdmitted(candidate, None, "", caller, preset, outgoing)
    judged = judge(outgoing, candidate)
    if isinstance(judged, Denied):
        return Denied(judged.problem, candidate, preset=preset.id, caller=caller)
    return PresetAdmitted(candidate, judged.target, judged.rule, caller, preset, outgoing)
