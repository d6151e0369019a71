"""admin/api/messages.py: requests and results as handlers see them."""

from __future__ import annotations

import pytest

from sidekey.admin.api.messages import ApiRequest, ApiResult, etag, version_in
from sidekey.admin.api.operators import Operator
from sidekey.admin.api.tokens import WhoAmI
from sidekey.credentials.fields import Section

OPERATOR = Operator("ann", "viewer", "digest", "config:ann")


class Observed(Section):
    """A resource whose status changes while its version stays."""

    status: str = "ok"
    problem: str | None = None
    expires_at: float | None = None


def test_version_is_an_entity_tag() -> None:
    """A strong one, in quotes (RFC 9110 8.8.3)."""
    assert etag(7, Observed()) == '"7"'
    assert ApiResult.of(Observed(), version=7).headers == {"ETag": '"7"'}


def test_status_is_in_the_entity_tag() -> None:
    """A conditional GET must notice that an integration began to fail; a change needs the version alone."""
    tags = [
        etag(7, Observed()),
        etag(7, Observed(status="failing", problem="3 failures")),
        etag(7, Observed(status="failing", problem="4 failures")),
        etag(7, Observed(expires_at=1_900_000_000)),
    ]
    assert len(set(tags)) == 4
    assert [version_in(tag) for tag in tags] == [7] * 4
    assert [version_in(tag) for tag in ("7", 'W/"7"', '"07"', '"7-"', '"x"', "*")] == [None] * 6


def test_json_is_compact_and_utf_8() -> None:
    """Members that were not set are absent."""
    result = ApiResult.of(Observed(problem="é"), status=201, location="/x")
    assert (result.status, result.body, result.headers) == (201, '{"problem":"é"}'.encode(), {"Location": "/x"})
    assert ApiResult.of(Observed(problem="é"), {"a": ["ü"]}).body == '{"problem":"é","a":["ü"]}'.encode()


def test_times_are_written_in_utc() -> None:
    operator = WhoAmI.model_construct(name="ann", expires_at=1_900_000_000)
    assert b'"expires_at":"2030-03-17T17:46:40Z"' in ApiResult.of(operator).body


def test_body_is_asked_for_only_where_a_route_takes_one() -> None:
    assert ApiRequest(OPERATOR, body={"a": 1}).document == {"a": 1}
    with pytest.raises(RuntimeError):
        ApiRequest(OPERATOR).document  # noqa: B018 - a property


def test_bodies_and_digests_are_not_shown() -> None:
    """They may contain a new token, a secret, or what an operator is known by."""
    shown = repr(ApiRequest(OPERATOR, body={"password": "canary"})) + repr(ApiResult(200, b"canary"))
    assert "canary" not in shown
    assert "digest" not in shown
