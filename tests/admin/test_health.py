"""admin/health.py: readiness as the app says it."""

from __future__ import annotations

from sidekey.admin.health import Health


def test_a_process_is_not_ready_until_it_is_said_to_be() -> None:
    """Forgetting to say so must not send callers to a process that is starting."""
    health = Health()
    assert (health.ready, health.reason) == (False, "starting")
