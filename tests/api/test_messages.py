"""api/messages.py: requests and results as handlers see them."""

from __future__ import annotations

from sidekey.api.auth.operators import Operator
from sidekey.api.messages import ApiRequest, ApiResult, etag, version_in
from sidekey.credentials.fields import Section

OPERATOR = Operator("ann", "viewer", "digest", "config:ann")


class Observed(Section):
    """A resource whose status changes without a new version."""

    status: str = "ok"
    problem: str | None = None
    expires_at: float | None = None


def test_status_is_in_the_entity_tag() -> None:
    """A conditional GET must show that an integration began to fail. A change needs the version only."""
    tags = [
        etag(7, Observed()),
        etag(7, Observed(status="failing", problem="3 failures")),
        etag(7, Observed(status="failing", problem="4 failures")),
        etag(7, Observed(expires_at=1_900_000_000)),
    ]
    assert len(set(tags)) == 4
    assert [version_in(tag) for tag in tags] == [7] * 4
    assert [version_in(tag) for tag in ("7", 'W/"7"', '"07"', '"7-"', '"x"', "*")] == [None] * 6


def test_repr_omits_bodies_and_digests() -> None:
    """They may contain a new token, a secret, or the digest of a token."""
    shown = repr(ApiRequest(OPERATOR, body={"password": "canary"})) + repr(ApiResult(200, b"canary"))
    assert "canary" not in shown
    assert "digest" not in shown
