"""admin/health.py: the app's word on startup and readiness, and what the store adds."""

from __future__ import annotations

from sidekey.admin.health import Health


def test_a_process_is_not_ready_until_it_is_said_to_be() -> None:
    """Forgetting to say so must not send callers to a process that is starting."""
    health = Health()
    assert (health.started, health.ready, health.reason) == (False, False, "starting")


def test_a_store_that_was_not_read_keeps_a_started_process_from_being_ready() -> None:
    why = ["the store was not read yet"]
    health = Health(lambda: why[0])
    health.started = True
    assert (health.ready, health.reason) == (False, "the store was not read yet")
    why[0] = ""
    assert (health.ready, health.reason) == (True, "")
    health.draining = True
    assert (health.started, health.ready, health.reason) == (True, False, "draining")
