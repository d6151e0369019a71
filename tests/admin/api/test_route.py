"""admin/api/route.py: which paths a route is for."""

from __future__ import annotations

import pytest

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service


async def handle(service: Service, ask: Ask) -> Answer:
    """What no test here asks for."""
    raise AssertionError(f"the handler was called for {ask.names}")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("things/a", {"id": "a"}),
        ("things/", None),
        ("things", None),
        ("things/a/b", None),
        ("other/a", None),
        ("{id}/a", None),
    ],
)
def test_a_name_is_one_segment(path: str, names: dict[str, str] | None) -> None:
    """Whatever it is: no handler finds what is not there."""
    route = Route(method="GET", path="/things/{id}", name="x", summary="", role="viewer", handle=handle)
    assert route.match(tuple(path.split("/"))) == names
