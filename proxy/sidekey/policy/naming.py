"""Read the integration ID and the caller's token from a request's target and headers.

Also tells the forward proxy's targets from those of the reverse proxy (`/i/ID`) and of presets (`/p/ID`).
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from sidekey.policy.addresses import literal
from sidekey.policy.messages import RequestHead
from sidekey.policy.tunnel import TunnelEntry

REVERSE: Final = b"/i/"
PRESET: Final = b"/p/"
_ID: Final = re.compile(r"(?!unknown\Z)[a-z0-9][a-z0-9_-]{0,62}")

_CHARACTER: Final = rb"A-Za-z0-9_~!$&'()*+,=:@-"
_SEGMENT: Final = rb"/[" + _CHARACTER + rb"][." + _CHARACTER + rb"]*+"
_QUERY: Final = rb"\?(?:[!\"$&-\[\]-~]++|%[0-9A-Fa-f]{2})*+"
PLAIN: Final = re.compile(rb"(?:" + _SEGMENT + rb")*+/?(?:" + _QUERY + rb")?")
"""A path that every server reads the same way, with any query of URI characters: no escape, backslash, parameter or
empty segment, and no segment that begins with a dot. On such paths the fast parser agrees with the exact one."""


MAX_HOST_LENGTH: Final = 260
"""Bytes of a Host field: a name of 253 and a port."""


class InvalidNaming(ValueError):
    """A header that names the integration or the caller is malformed, or two places disagree."""


class Naming:
    """The integration ID and the caller's token in a request, or empty bytes."""

    __slots__ = ("integration", "token")

    def __init__(self, integration: bytes, token: bytes) -> None:
        self.integration: Final = integration
        self.token: Final = token


NO_NAMING: Final = Naming(b"", b"")

NOBODY: Final = b"-"
"""A user name that names no integration, for clients that send no password without one."""


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


def parse_proxy_authorization(value: bytes) -> Naming:
    """Parse `Proxy-Authorization: Basic ...` (RFC 7617): the user is the integration, the password the token.

    Raises InvalidNaming for another scheme or malformed text.
    """
    scheme, _, encoded = value.strip(b" \t").partition(b" ")
    if scheme.lower() != b"basic":
        raise InvalidNaming("the scheme of Proxy-Authorization must be Basic")
    try:
        text = binascii.a2b_base64(encoded.strip(b" "), strict_mode=True)
    except binascii.Error:
        raise InvalidNaming("Proxy-Authorization must be base64") from None
    name, separator, password = text.partition(b":")
    if not separator:
        raise InvalidNaming("Proxy-Authorization must have a colon between user name and password")
    return Naming(b"" if name == NOBODY else name, password)


def read_naming(head: RequestHead, entry: TunnelEntry | None) -> Naming | None:
    """Return ID and token of a request if one source has them, or None if `decide` must compare several sources.

    In a tunnel the `entry` has those of the CONNECT. A malformed Proxy-Authorization is left to `decide`.
    """
    written = head.proxy_authorization
    has_fields = head.token is not None or head.integration_id is not None
    if entry is not None:
        return None if has_fields or written is not None else Naming(entry.name or b"", entry.token or b"")
    if written is None:
        return Naming(head.integration_id or b"", head.token or b"") if has_fields else NO_NAMING
    try:
        return None if has_fields else parse_proxy_authorization(written)
    except InvalidNaming:
        return None


def single_value(*values: bytes | None) -> bytes | None:
    """Return the value that all sources agree on, or None if there is none. Raises InvalidNaming if two differ."""
    distinct = {value for value in values if value}
    if len(distinct) > 1:
        raise InvalidNaming("the request must not name two integrations or two callers")
    return distinct.pop() if distinct else None


def is_own_host(host: bytes, names: frozenset[str]) -> bool:
    """Return True if `Host` is an IP literal, localhost or one of the listener's `names`. Prevents DNS rebinding."""
    if len(host) > MAX_HOST_LENGTH:
        return False
    name, port = _split_host(host.decode("latin-1").lower())
    if port and not (port.isascii() and port.isdigit()):
        return False
    return name == "localhost" or name in names or literal(name) is not None


def _split_host(host: str) -> tuple[str, str]:
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return (name, port[1:]) if bracket and ":" in name and port[:1] in ("", ":") else ("", "")
    name, _, port = host.partition(":")
    return name, port


def is_loop(via: bytes, word: bytes) -> bool:
    """Return True if `Via` (all lines, joined by commas) contains this process's word, or more than five Sidekeys."""
    return word in via or via.lower().count(b"sidekey") > 5
