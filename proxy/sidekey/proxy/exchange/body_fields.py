"""Add the fields of a grant to a request's body, once it is complete.

RFC 6750 2.2 puts the token into a form; JSON objects are supported as well. Sidekey refuses a body that it cannot
extend before it fetches a token.
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


def check_head(head: RequestHead, size: int, limit: int) -> Problem | None:
    """Check by its head that a body can be extended, and that its `size` so far is within `limit`."""
    if head.connection and b"content-type" in nominated(head.connection):
        return _unsupported("Connection must not name Content-Type where fields are added to the body")
    if not BODY_DIGESTS.isdisjoint(head.names):
        return _unsupported("a digest covers the body, so nothing can be added to it")
    if size > limit:
        return _unsupported("the body is over limits.replay_body, so nothing is added to it")
    if not head.length and not head.has_content_length:
        return _unsupported("the request has no body, so nothing can be added to it")
    if not is_plain(head.fields):
        return _unsupported("the body has a content coding, so nothing can be added to it")
    try:
        _media_type(head)
    except UnsupportedBody as reason:
        return _unsupported(str(reason))
    return None


def check_names(head: RequestHead, body: bytes, names: Iterable[str]) -> Problem | None:
    """Check that a complete body can take fields of these names and has none of them yet."""
    try:
        check_body(body, _media_type(head), names)
    except DuplicateParameter:
        detail = "the body must not contain a field that Sidekey adds itself"
        return Problem("request_invalid", detail, denial="parameter_injected")
    except UnreadableNames as error:
        return Problem("request_invalid", f"the body {error}", denial="parameters_unreadable")
    except UnsupportedBody as reason:
        return _unsupported(str(reason))
    return None


def add_fields(head: RequestHead, body: bytes, fields: Iterable[tuple[str, Scalar]]) -> bytes:
    """Return the body with these fields, whose names have passed `check_names`."""
    return add_parameters(body, _media_type(head), fields)


def _media_type(head: RequestHead) -> str:
    types = line_values(head.fields, b"content-type")
    if len(types) != 1:
        raise UnsupportedBody("nothing can be added to the body: one Content-Type must name a form or JSON")
    return media_type(types[0].decode("latin-1"))


def _unsupported(detail: str) -> Problem:
    return Problem("body_unsupported", detail, denial="body_not_extended")
