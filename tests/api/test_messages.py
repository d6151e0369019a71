"""api/messages.py: entity tags, and the repr of requests and results."""

from __future__ import annotations

from sidekey.api.auth.operators import Operator
from sidekey.api.messages import ApiRequest, ApiResult, etag, version_in
from sidekey.credentials.fields import Section

OPERATOR = Operator("ann", "viewer", "digest", "config:ann")


class Resource(Section):
    """A resource with a status, which can change while its version stays the same."""

    status: str = "ok"
    problem: str | None = None
    expires_at: float | None = None


def test_status_is_in_the_entity_tag() -> None:
    """A conditional GET must report that an integration began to fail. A change needs only the version."""
    tags = [
        etag(7, Resource()),
        etag(7, Resource(status="failing", problem="3 failures")),
        etag(7, Resource(status="failing", problem="4 failures")),
        etag(7, Resource(expires_at=1_900_000_000)),
    ]
    assert len(set(tags)) == 4
    assert [version_in(tag) for tag in tags] == [7] * 4
    assert [version_in(tag) for tag in ("7", 'W/"7"', '"07"', '"7-"', '"x"', "*")] == [None] * 6


def test_repr_omits_bodies_and_digests() -> None:
    """Bodies may contain tokens and secrets."""
    shown = repr(ApiRequest(OPERATOR, body={"password": "canary"})) + repr(ApiResult(200, b"canary"))
    assert "canary" not in shown
    assert "digest" not in shown
