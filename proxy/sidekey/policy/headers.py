"""Which headers Sidekey reads, forwards or drops (RFC 9110 7.6.1), as tables.

Names are compared in lower case with `-` for `_`, since CGI-like servers cannot tell these apart. A name that has a
role only after this change (`Content_Length`) is dropped, so that no server reads it as the real header.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, auto
from typing import Final


class Role(IntEnum):
    """The proxy's use of a header."""

    FORWARD = 0
    DROP = auto()
    HOST = auto()
    CONTENT_LENGTH = auto()
    TRANSFER_ENCODING = auto()
    CONNECTION = auto()
    UPGRADE = auto()
    EXPECT = auto()
    VIA = auto()
    ORIGIN = auto()
    SEC_FETCH_SITE = auto()
    MAX_FORWARDS = auto()
    INTEGRATION_ID = auto()
    PROXY_AUTHORIZATION = auto()
    TOKEN = auto()
    PROXY_CONNECTION = auto()
    KEEP_ALIVE = auto()
    WEBSOCKET_KEY = auto()


REQUEST_ROLES: Final = {
    b"host": Role.HOST,
    b"content-length": Role.CONTENT_LENGTH,
    b"transfer-encoding": Role.TRANSFER_ENCODING,
    b"connection": Role.CONNECTION,
    b"upgrade": Role.UPGRADE,
    b"expect": Role.EXPECT,
    b"via": Role.VIA,
    b"origin": Role.ORIGIN,
    b"sec-fetch-site": Role.SEC_FETCH_SITE,
    b"max-forwards": Role.MAX_FORWARDS,
    b"x-integration-id": Role.INTEGRATION_ID,
    b"proxy-authorization": Role.PROXY_AUTHORIZATION,
    b"sidekey-token": Role.TOKEN,
    b"proxy-connection": Role.PROXY_CONNECTION,
    b"keep-alive": Role.DROP,
    b"te": Role.DROP,
    b"trailer": Role.DROP,
    b"http2-settings": Role.DROP,
    b"x-original-url": Role.DROP,
    b"x-rewrite-url": Role.DROP,
    # A caller's certificate in the words of a proxy. Sidekey verifies certificates itself, and forwards none: an
    # upstream that trusts Sidekey must not believe a caller (RFC 9440 4).
    b"client-cert": Role.DROP,
    b"client-cert-chain": Role.DROP,
    b"x-forwarded-client-cert": Role.DROP,
}

RESPONSE_ROLES: Final = {
    b"content-length": Role.CONTENT_LENGTH,
    b"transfer-encoding": Role.TRANSFER_ENCODING,
    b"connection": Role.CONNECTION,
    b"keep-alive": Role.KEEP_ALIVE,
    b"te": Role.DROP,
    b"trailer": Role.DROP,
    b"upgrade": Role.UPGRADE,
}

METHOD_OVERRIDES: Final = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
"""Headers that override the method at some servers. Callers must not bypass `methods` with them."""

TARGET_HEADERS: Final = (
    "Forwarded",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-Original-URI",
    "X-Waws-Unencoded-Url",
    "X-Envoy-Original-Path",
)
"""Headers that override the host or path at common servers and frameworks.

They are not sent with a credential unless the integration passes them. `X-Original-URL` and `X-Rewrite-URL` replace
the complete target and are always dropped.
"""

TARGET_FIELDS: Final = frozenset(name.lower().encode() for name in TARGET_HEADERS)
"""Normalized names of `TARGET_HEADERS`."""

URL_FIELDS: Final = frozenset({b"location", b"content-location", b"link", b"refresh"})
"""Response headers that may repeat the URL of the request."""

BODY_DIGESTS: Final = frozenset({b"digest", b"content-digest", b"repr-digest", b"content-md5"})
"""Digests of a body (RFC 9530). Sidekey adds no parameter to a body with a digest."""

CODED_BODY_FIELDS: Final = frozenset({b"accept-encoding", b"range", b"if-range"})
"""Request headers that allow a coded or partial response body."""

EXACT_BODY_FIELDS: Final = BODY_DIGESTS | {b"etag", b"accept-ranges", b"content-encoding"}
"""Response headers that describe the exact bytes of the body, and are wrong once Sidekey decodes or changes it."""

_DROPPED_FAMILIES: Final[tuple[bytes, ...]] = (b"proxy-", b"sidekey-")


class FieldName:
    """A header name in one spelling.

    `normal` is the normalized name. `start` is the beginning of the header's line, after the preceding CRLF.
    `follower` is the header that came next in the last message.
    """

    __slots__ = ("follower", "normal", "raw", "role", "start")

    def __init__(self, raw: bytes, normal: bytes, role: Role) -> None:
        self.raw: Final = raw
        self.normal: Final = normal
        self.role: Final = role
        self.start: Final = b"\r\n" + raw + b": "
        self.follower: FieldName | None = None

    def set_follower(self, follower: FieldName | None) -> None:
        """Set the header that probably comes next."""
        self.follower = follower


class FieldNames:
    """Cache of header names. It is limited in size, since peers may invent names.

    `first` precedes the first header of a message.
    """

    LIMIT: Final = 2048
    MAX_LENGTH: Final = 64

    __slots__ = ("_roles", "first", "known")

    def __init__(self, roles: dict[bytes, Role]) -> None:
        self.first: Final = FieldName(b"", b"", Role.DROP)
        self._roles = roles
        self.known: dict[bytes, FieldName] = {}

    def read(self, name: bytes, previous: FieldName) -> FieldName:
        """Return the header name that came after `previous`.

        Most peers repeat the order of their headers. A comparison with the last follower instead of a hash look-up
        saves 5 % of an exchange (compiled, without sockets).
        """
        field_name = previous.follower
        if field_name is None or field_name.raw != name:
            field_name = self._find(name, previous)
        return field_name

    def _find(self, name: bytes, previous: FieldName) -> FieldName:
        field_name = self.known.get(name)
        if field_name is None:
            field_name = classify(name, self._roles)
            if len(name) > self.MAX_LENGTH:
                return field_name
            if len(self.known) >= self.LIMIT:
                self._clear()
            self.known[name] = field_name
        previous.set_follower(field_name)
        return field_name

    def _clear(self) -> None:
        """Clear the cache. Break the follower links too, because a connection may still hold one name."""
        for field_name in self.known.values():
            field_name.set_follower(None)
        self.first.set_follower(None)
        self.known.clear()


def normalise(name: bytes) -> bytes:
    """Return a header name in lower case with `-` for `_`."""
    return name.lower().replace(b"_", b"-")


def classify(name: bytes, roles: dict[bytes, Role]) -> FieldName:
    """Find the role of a header name."""
    normal = normalise(name)
    role = roles.get(normal)
    if role is None:
        role = Role.DROP if normal.startswith(_DROPPED_FAMILIES) else Role.FORWARD
    elif normal != name.lower():
        role = Role.DROP
    return FieldName(name, normal, role)


def may_change_request(normal: bytes) -> bool:
    """Return True if the header of this normalized name may change how a server reads the request."""
    return (
        REQUEST_ROLES.get(normal, Role.FORWARD) != Role.FORWARD or normal in METHOD_OVERRIDES or normal in TARGET_FIELDS
    )


def tokens(value: bytes) -> list[bytes]:
    """Split a comma-separated list of tokens, in lower case (RFC 9110 5.6.1)."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def nominated(connection: bytes) -> frozenset[bytes]:
    """Return the normalized names of the hop-by-hop headers that `Connection` lists."""
    return frozenset(map(normalise, tokens(connection))) - {b"close", b"keep-alive"}


def line_name(line: bytes) -> bytes:
    """Return the normalized header name of a line that begins with the preceding CRLF."""
    return normalise(line[2 : line.index(b":")])


def drop_fields(lines: list[bytes], dropped: frozenset[bytes]) -> list[bytes]:
    """Remove the lines of headers whose normalized name is in `dropped`."""
    return [line for line in lines if line_name(line) not in dropped]


def line_values(lines: Iterable[bytes], name: bytes) -> list[bytes]:
    """Return the values of the headers with this normalized name."""
    return [line.partition(b":")[2].strip(b" \t") for line in lines if line_name(line) == name]


def is_plain(lines: Iterable[bytes]) -> bool:
    """Return True if the body has no content coding other than `identity` (RFC 9110 8.4.1)."""
    return all(coding.lower() in (b"", b"identity") for coding in line_values(lines, b"content-encoding"))
