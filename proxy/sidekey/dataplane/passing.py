"""Targets at the forward door that no integration covers: they go on as they came, without a credential."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.core.coverage import Coverage
from sidekey.core.urls import InvalidTarget, Target, parse_target
from sidekey.dataplane.lane import Lane
from sidekey.errors import Problem

if TYPE_CHECKING:
    from sidekey.dataplane.plane import Plane
    from sidekey.settings.snapshot import Integration, Passing


class PassThrough:
    """Says which targets those are, by one snapshot; `lane` is theirs.

    The lane outlives a snapshot where the next one trusts the same CAs, and its connections with it.
    """

    __slots__ = ("_coverage", "_undecided", "lane")

    lane: Lane

    def __init__(self, plane: Plane, rules: Passing, former: PassThrough | None) -> None:
        if former is None or former.lane.integration.trust != rules.nobody.trust:
            self.lane = Lane(plane, rules.nobody, plane.metrics.passed)
        else:
            self.lane = former.lane
        self._coverage = rules.coverage
        self._undecided = set(rules.undecided)
        lanes = (plane.lanes.get(name.encode()) for name in rules.undecided)
        self._take_in(*(lane.integration for lane in lanes if lane is not None))

    def decided(self, integration: Integration) -> None:
        """Hear what came of an integration that was undecided."""
        self._take_in(integration)

    def _take_in(self, *integrations: Integration) -> None:
        known = [each for each in integrations if each.rebuild is None]
        if known:
            self._coverage |= Coverage.of(each.policy for each in known)
            self._undecided -= {each.id for each in known}

    def target(self, written: bytes, lane: Lane | None) -> Target | Problem | None:
        """The target of a request that names this lane's integration, or none: where it passes, or why it is refused.

        None where it is the integration's to judge.
        """
        end = written.find(b"/", len(b"https://"))
        if lane is not None and end > 0 and written[:end] in lane.entries:
            return None
        try:
            target = parse_target(written.decode("latin-1"))
        except InvalidTarget as fault:
            return None if lane is not None else Problem("request_invalid", str(fault))
        host = target.origin.host
        # A lane of before a reload may cover what the integrations of now do not.
        if self._coverage.covers(host) or (lane is not None and Coverage.of((lane.policy,)).covers(host)):
            return None
        if self._undecided:
            if lane is not None and lane.undecided:
                return None
            detail = "what an integration covers cannot be read; until then nothing passes without a credential"
            return Problem("credential_unavailable", detail, error="proxy_configuration_error")
        if host.endswith("."):
            return Problem("target_denied", "the host ends in a dot")
        return target
