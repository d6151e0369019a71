"""Read the integration or preset ID and the caller's token from a request's target and headers.

The target selects the forward proxy (an absolute URL), the reverse proxy (`/i/ID`) or a preset (`/p/ID`).
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from sidekey.policy.messages import RequestHead
from sidekey.policy.tunnel import TunnelContext

REVERSE: Final = b"/i/"
PRESET: Final = b"/p/"
_ID: Final = re.compile(r"(?!unknown\Z)[a-z0-9][a-z0-9_-]{0,62}")


class InvalidIdentifiers(ValueError):
    """A header with an ID or token is malformed, or two sources have different values."""


class Identifiers:
    """The integration ID and the caller's token in a request, each empty if missing."""

    __slots__ = ("integration", "token")

    def __init__(self, integration: bytes, token: bytes) -> None:
        self.integration: Final = integration
        self.token: Final = token


NO_IDENTIFIERS: Final = Identifiers(b"", b"")

NO_ID: Final = b"-"
"""Proxy user name without an ID, for clients that send no password without a user name."""


def valid_id(text: str) -> bool:
    """Return True if `text` may be an integration ID. Metrics use `unknown` for requests without one."""
    return _ID.fullmatch(text) is not None


def split_reverse(target: bytes) -> tuple[bytes, bytes]:
    """Split a reverse-proxy target into the ID and the rest, which is empty or begins with `/` or `?`."""
    cut = min((at for at in (target.find(b"/", 3), target.find(b"?", 3)) if at >= 0), default=len(target))
    return target[3:cut], target[cut:]


def preset_id(target: bytes) -> bytes:
    """Return the ID in the target `/p/ID`, or empty bytes for any other target."""
    name = target[3:] if target.startswith(PRESET) else b""
    return b"" if b"/" in name or b"?" in name else name


def reverse_id(target: bytes) -> bytes:
    """Return the ID in a reverse-proxy target, or empty bytes for any other target."""
    return split_reverse(target)[0] if target.startswith(REVERSE) else b""


def parse_proxy_authorization(value: bytes | None) -> Identifiers:
    """Parse `Proxy-Authorization: Basic ...` (RFC 7617): the user is the integration, the password the token.

    Raises InvalidIdentifiers for another scheme or malformed text.
    """
    if value is None:
        return NO_IDENTIFIERS
    scheme, _, encoded = value.strip(b" \t").partition(b" ")
    if scheme.lower() != b"basic":
        raise InvalidIdentifiers("the scheme of Proxy-Authorization must be Basic")
    try:
        text = binascii.a2b_base64(encoded.strip(b" "), strict_mode=True)
    except binascii.Error:
        raise InvalidIdentifiers("Proxy-Authorization must be base64") from None
    name, separator, password = text.partition(b":")
    if not separator:
        raise InvalidIdentifiers("Proxy-Authorization must have a colon between user name and password")
    return Identifiers(b"" if name == NO_ID else name, password)


def read_identifiers(head: RequestHead, tunnel: TunnelContext | None) -> Identifiers | None:
    """Return ID and token of a request if one source has them, or None if `decide` must compare several sources.

    In a `tunnel` the CONNECT is a source. A malformed Proxy-Authorization is left to `decide`.
    """
    written = head.proxy_authorization
    has_fields = head.token is not None or head.integration_id is not None
    if tunnel is not None:
        return None if has_fields or written is not None else Identifiers(tunnel.name or b"", tunnel.token or b"")
    if written is None:
        return Identifiers(head.integration_id or b"", head.token or b"") if has_fields else NO_IDENTIFIERS
    try:
        return None if has_fields else parse_proxy_authorization(written)
    except InvalidIdentifiers:
        return None


def single_value(*values: bytes | None) -> bytes | None:
    """Return the value that all sources agree on, or None if there is none. Raises InvalidIdentifiers if two differ."""
    distinct = {value for value in values if value}
    if len(distinct) > 1:
        raise InvalidIdentifiers("the request must not name two integrations or two callers")
    return distinct.pop() if distinct else None
