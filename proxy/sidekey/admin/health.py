"""Whether the process is ready for callers, as the app last set it."""

from __future__ import annotations


class Health:
    """Readiness: config loaded, listening, not draining. Never depends on a third party.

    `reason` says in a few words why it is not ready; anyone may read it, so it names no secret and no path.
    """

    __slots__ = ("ready", "reason")

    def __init__(self) -> None:
        self.ready = False
        self.reason = "starting"
