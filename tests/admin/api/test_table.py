"""admin/api/table.py: all routes, each of which can be reached."""

from __future__ import annotations

from sidekey.admin.api.table import ROUTES


def test_no_route_hides_another() -> None:
    """Of two that match a path the first one of the method is taken: none has the same path and method."""
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        named = [each for each in ROUTES if each.match(route.segments) is not None]
        assert {each.path for each in named} == {route.path}


def test_what_changes_needs_more_than_a_viewer() -> None:
    """And says what it does, for the audit; whoever changes what is there must name its version."""
    for route in ROUTES:
        if route.writes:
            assert route.role == ("editor" if route.writes in ("integration", "preset") else "admin")
            assert route.action
        assert route.conditional is (bool(route.writes) and "{" in route.path)
