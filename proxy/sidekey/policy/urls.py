"""The exact parser of targets: absolute http and https URLs (RFC 3986, RFC 9110 4.2).

It repairs nothing and refuses characters that are not allowed in a URI, so that Sidekey sends the target it checked.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sidekey.policy import addresses

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?", re.S
)
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_FOREIGN: Final = re.compile(r"[^\x21\x22\x24-\x5b\x5d-\x7e]")
_WELL_FORMED: Final = re.compile(r"(?:[\x21\x22\x24\x26-\x5b\x5d-\x7e]++|%[0-9A-Fa-f]{2})*+")
_MAX_NAME_LENGTH: Final = 254
"""Characters of a host name with a trailing dot (RFC 1035 2.3.4). Every IP address is shorter."""
_NO_HOST: Final = "the target's host must be a host name or an IP address: write an international name in punycode"


class InvalidTarget(ValueError):
    """The target is malformed or ambiguous. The message says why and repeats nothing of the target."""


class Origin(NamedTuple):
    """Normalized scheme, host and port: lower case, with the default port, IPv6 compressed and without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Value of `Host` (RFC 9110 7.2), without the default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Target(NamedTuple):
    """A parsed target. `path` begins with a slash. `query` is None if the target has no question mark."""

    origin: Origin
    path: str
    query: str | None

    @property
    def request_target(self) -> str:
        """The origin-form that Sidekey sends to the upstream (RFC 9112 3.2.1)."""
        return self.path if self.query is None else f"{self.path}?{self.query}"


def check_characters(text: str) -> None:
    """Raise InvalidTarget for a character that no URI contains (RFC 3986 2), or an invalid percent-encoding."""
    if _WELL_FORMED.fullmatch(text):
        return
    if _FOREIGN.search(text):
        raise InvalidTarget("the target contains characters that must be percent-encoded")
    raise InvalidTarget("the target contains an invalid percent-encoding")


def parse_target(url: str) -> Target:
    """Parse an absolute URL with one character per byte (Latin-1). Raises InvalidTarget."""
    check_characters(url)
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidTarget("the target must be an absolute URL")
    origin = parse_origin(match["scheme"], match["authority"])
    return Target(origin, match["path"] or "/", match["query"])


def parse_origin(scheme: str, authority: str) -> Origin:
    """Normalize scheme and authority. Raises InvalidTarget, also for userinfo (RFC 9110 4.2.4)."""
    scheme = scheme.lower()
    if scheme not in DEFAULT_PORTS:
        raise InvalidTarget("the target's scheme must be http or https")
    if "@" in authority:
        raise InvalidTarget("the target must not contain userinfo")
    host, port = _split_port(authority)
    if port is None:
        return Origin(scheme, _host(host), DEFAULT_PORTS[scheme])
    # An empty port is the default one (RFC 3986 3.2.3).
    if port and (not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536):
        raise InvalidTarget("the target's port must be 1 to 65535")
    return Origin(scheme, _host(host), int(port) if port else DEFAULT_PORTS[scheme])


class Authority(NamedTuple):
    """Target of a CONNECT: host and port, normalized as in an `Origin`."""

    host: str
    port: int

    def origin(self, scheme: str) -> Origin:
        """Return the origin of requests with this scheme in the tunnel."""
        return Origin(scheme, self.host, self.port)


def parse_authority(text: str) -> Authority:
    """Parse the target of a CONNECT: host and port only (RFC 9110 9.3.6). Raises InvalidTarget."""
    check_characters(text)
    if "/" in text or "?" in text:
        raise InvalidTarget("the target of CONNECT must be host:port, without scheme, path and query")
    origin = parse_origin("https", text)
    if not _split_port(text)[1]:
        raise InvalidTarget("the target of CONNECT must be host:port, with the port")
    return Authority(origin.host, origin.port)


def _split_port(authority: str) -> tuple[str, str | None]:
    bracket = authority.rfind("]")
    colon = authority.find(":", bracket + 1)
    if colon < 0:
        return authority, None
    return authority[:colon], authority[colon + 1 :]


def _host(host: str) -> str:
    if len(host) > _MAX_NAME_LENGTH:
        raise InvalidTarget(_NO_HOST)
    if host.startswith("["):
        address = (
            addresses.parse_address(host[1:-1]) if ":" in host and "%" not in host and host.endswith("]") else None
        )
        if address is None:
            raise InvalidTarget("the target's host in brackets must be an IPv6 address without a zone")
        return address.compressed
    host = host.lower()
    if not _NAME.fullmatch(host):
        raise InvalidTarget(_NO_HOST)
    return host
