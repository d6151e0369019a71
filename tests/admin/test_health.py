"""admin/health.py: startup and readiness as the app sets them."""

from __future__ import annotations

from sidekey.admin.health import Health


def test_a_process_is_not_ready_until_it_is_said_to_be() -> None:
    """Forgetting to say so must not send callers to a process that is starting."""
    health = Health()
    assert (health.started, health.ready, health.reason) == (False, False, "starting")
