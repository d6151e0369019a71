"""Doors and names: what a request target and the naming headers say, before any integration is looked up."""

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
empty segment, and no segment that begins with a dot. For such a path the quick reading equals the exact one."""


MAX_HOST_LENGTH: Final = 260
"""Bytes of a Host field that names a host: a name of 253 and a port."""


class InvalidNaming(ValueError):
    """A header that names the integration or the caller is malformed, or two places disagree."""


class Naming:
    """The integration ID and the caller's token that a request gives, each empty if it gives none."""

    __slots__ = ("integration", "token")

    def __init__(self, integration: bytes, token: bytes) -> None:
        self.integration: Final = integration
        self.token: Final = token


NO_NAMING: Final = Naming(b"", b"")

NOBODY: Final = b"-"
"""A user name that names no integration, for clients that send no password without one."""


def valid_id(text: str) -> bool:
    """Whether `text` may be an integration ID; `unknown` is the metrics' word for none."""
    return _ID.fullmatch(text) is not None


def split_reverse(target: bytes) -> tuple[bytes, bytes]:
    """The ID and the rest (empty, or beginning with `/` or `?`) of a target at the reverse door."""
    cut = min((at for at in (target.find(b"/", 3), target.find(b"?", 3)) if at >= 0), default=len(target))
    return target[3:cut], target[cut:]


def preset_id(target: bytes) -> bytes:
    """The ID in a target at the presets' door, which has nothing behind it; empty where this is none."""
    name = target[3:] if target.startswith(PRESET) else b""
    return b"" if b"/" in name or b"?" in name else name


def reverse_id(target: bytes) -> bytes:
    """The ID in a target at the reverse door; empty where this is none."""
    return split_reverse(target)[0] if target.startswith(REVERSE) else b""


def proxy_user(value: bytes) -> Naming:
    """Read `Proxy-Authorization: Basic ...` (RFC 7617): the user is the integration, the password the token.

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
    """Return the naming of a request if one place gives it, or None if `decide` must compare several places.

    A request in a tunnel with an `entry` is named by the CONNECT. A malformed Proxy-Authorization is left to `decide`.
    """
    written = head.proxy_authorization
    has_own = head.token is not None or head.integration_id is not None
    if entry is not None:
        return None if has_own or written is not None else Naming(entry.name or b"", entry.token or b"")
    if written is None:
        return Naming(head.integration_id or b"", head.token or b"") if has_own else NO_NAMING
    try:
        return None if has_own else proxy_user(written)
    except InvalidNaming:
        return None


def agree(*places: bytes | None) -> bytes | None:
    """The one value that the places give, None where none gives one. Raises InvalidNaming where two differ."""
    given = {place for place in places if place}
    if len(given) > 1:
        raise InvalidNaming("the request must not name two integrations or two callers")
    return given.pop() if given else None


def is_own_host(host: bytes, names: frozenset[str]) -> bool:
    """Whether `Host` is this listener's: an IP literal, localhost, or one of `names`; against DNS rebinding."""
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


def passed_through(via: bytes, word: bytes) -> bool:
    """Whether `Via` (all of its lines, joined by commas) contains our own word, or more than five Sidekeys."""
    return word in via or via.lower().count(b"sidekey") > 5
