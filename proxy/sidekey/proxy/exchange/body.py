"""Add fields to a request's body, which is held until it is complete.

RFC 6750 2.2 puts the token into a form; JSON objects are supported as well. A body that cannot take the fields is
refused before a token is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidekey.errors import Problem
from sidekey.policy.headers import BODY_DIGESTS, is_plain, line_values, nominated
from sidekey.policy.messages import RequestHead
from sidekey.policy.parameters import (
    DuplicateParameter,
    Scalar,
    UnreadableNames,
    UnsupportedBody,
    add_parameters,
    check_body,
    media_type,
)


def refusal(head: RequestHead, size: int, limit: int) -> Problem | None:
    """Return why fields cannot be added to the body of this head, by its `size` so far and the `limit` of its size."""
    if head.connection and b"content-type" in nominated(head.connection):
        return _unplaceable("Connection must not name Content-Type where fields are added to the body")
    if not BODY_DIGESTS.isdisjoint(head.names):
        return _unplaceable("a digest covers the body, so nothing can be added to it")
    if size > limit:
        return _unplaceable("the body is over limits.replay_body, so nothing is added to it")
    if not head.length and not head.has_content_length:
        return _unplaceable("the request has no body, so nothing can be added to it")
    if not is_plain(head.fields):
        return _unplaceable("the body has a content coding, so nothing can be added to it")
    try:
        _kind(head)
    except UnsupportedBody as reason:
        return _unplaceable(str(reason))
    return None


def conflict(head: RequestHead, body: bytes, names: Iterable[str]) -> Problem | None:
    """Return why fields of these names cannot be added to a complete body."""
    try:
        check_body(body, _kind(head), names)
    except DuplicateParameter:
        detail = "the body must not contain a field that Sidekey adds itself"
        return Problem("request_invalid", detail, denial="parameter_injected")
    except UnreadableNames as error:
        return Problem("request_invalid", f"the body {error}", denial="parameters_unreadable")
    except UnsupportedBody as reason:
        return _unplaceable(str(reason))
    return None


def filled(head: RequestHead, body: bytes, fields: Iterable[tuple[str, Scalar]]) -> bytes:
    """Return the body with these fields, which must not `conflict`."""
    return add_parameters(body, _kind(head), fields)


def _kind(head: RequestHead) -> str:
    types = line_values(head.fields, b"content-type")
    if len(types) != 1:
        raise UnsupportedBody("nothing can be added to the body: one Content-Type must name a form or JSON")
    return media_type(types[0].decode("latin-1"))


def _unplaceable(detail: str) -> Problem:
    return Problem("body_unsupported", detail, denial="body_not_extended")
