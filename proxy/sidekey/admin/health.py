"""Whether the process has started, and is ready for callers."""

from __future__ import annotations

from collections.abc import Callable


class Health:
    """Startup and readiness, as the app sets them. After the start they never depend on a third party.

    `started`: the listeners accept, and the integrations of files are in use. `unread` says why the store was not read
    yet; it returns an empty text once the store was read, or where there is none. Anybody may read these reasons, so
    they name no secret and no path.
    """

    __slots__ = ("_unread", "draining", "started")

    def __init__(self, unread: Callable[[], str] | None = None) -> None:
        self.started = False
        self.draining = False
        self._unread = unread

    @property
    def reason(self) -> str:
        """Why the process is not ready; empty when it is."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        return "" if self._unread is None else self._unread()

    @property
    def ready(self) -> bool:
        """Return True if callers may be sent here."""
        return not self.reason
