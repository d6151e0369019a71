"""Whether the process has started, and is ready for callers."""

from __future__ import annotations


class Health:
    """Startup and readiness, as the app sets them. They never depend on a third party.

    `started`: the listeners accept, and the integrations of files are in use. Anybody may read the reason, so it names
    no secret and no path.
    """

    __slots__ = ("draining", "started")

    def __init__(self) -> None:
        self.started = False
        self.draining = False

    @property
    def reason(self) -> str:
        """Why the process is not ready; empty when it is."""
        if self.draining:
            return "draining"
        return "" if self.started else "starting"

    @property
    def ready(self) -> bool:
        """Return True if callers may be sent here."""
        return not self.reason
