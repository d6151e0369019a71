"""api/route.py and api/routes.py: routes by path, and their permissions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidekey.api.route import PathTable, path_parameters
from sidekey.api.routes import ROUTES

TABLE = PathTable(
    [
        replace(ROUTES[0], method=method, path=path)
        for method, path in (("GET", "/things/{id}"), ("PUT", "/things/{id}"), ("GET", "/things/all/{name}/x"))
    ]
)


@pytest.mark.parametrize(
    ("path", "methods", "names"),
    [
        ("/things/a", {"GET", "PUT"}, {"id": "a"}),
        ("/things/{id}", {"GET", "PUT"}, {"id": "{id}"}),
        ("/things/", set(), {}),
        ("/things", set(), {}),
        ("/things/a/b", set(), {}),
        ("/things/all", set(), {}),
        ("/things/all/b/x", {"GET"}, {"name": "b"}),
        ("/other/a", set(), {}),
        ("/{id}/a", set(), {}),
        ("", set(), {}),
    ],
)
def test_name_matches_one_segment_that_is_not_empty(path: str, methods: set[str], names: dict[str, str]) -> None:
    """A literal segment takes precedence."""
    routes, values = TABLE.find(path)
    assert (set(routes), values) == (methods, names)


def test_no_route_hides_another() -> None:
    table = PathTable(ROUTES)
    for route in ROUTES:
        routes, names = table.find(route.path)
        assert routes[route.method] is route
        assert tuple(names) == path_parameters(route.path)


def test_changes_need_a_role_above_viewer() -> None:
    """Each change has an action for the audit and, except for sessions, needs a version."""
    for route in ROUTES:
        if route.writes:
            assert route.permission == ("editor" if route.writes in ("integration", "preset") else "admin")
            assert route.action
        assert route.conditional is (route.writes not in ("", "session") and "{" in route.path)
