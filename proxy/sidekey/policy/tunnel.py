"""Requests in a tunnel: they inherit origin, integration and token from the CONNECT, and nothing else.

Sidekey reads a request in a tunnel as a forward-proxy request for the absolute URL that it stands for. `policy.decide`
checks it against the rules in force when the request begins.
"""

from __future__ import annotations

from typing import Final

from sidekey.policy.messages import RequestHead
from sidekey.policy.urls import DEFAULT_PORTS, InvalidTarget, Origin, parse_origin, parse_target


class TunnelContext:
    """The origin, integration ID (`name`) and token that requests in a tunnel inherit from the CONNECT.

    ID and token are None if the CONNECT has none. `base` is the beginning of absolute URLs at the origin. `hosts` are
    the usual values of Host for it.
    """

    __slots__ = ("base", "hosts", "name", "origin", "token")

    def __init__(self, origin: Origin, name: bytes | None, token: bytes | None) -> None:
        self.origin: Final = origin
        self.name: Final = name
        self.token: Final = token
        authority = origin.authority.encode()
        self.base: Final = b"%b://%b" % (origin.scheme.encode(), authority)
        default = b"%b:%d" % (authority, origin.port) if origin.port == DEFAULT_PORTS[origin.scheme] else authority
        self.hosts: Final = (authority, default)

    def make_absolute(self, head: RequestHead) -> RequestHead:
        """Return the head with an absolute target instead of an origin-form (RFC 9112 3.3)."""
        target = head.target
        return head.with_target(self.base + target) if target.startswith(b"/") else head

    def is_misdirected(self, head: RequestHead) -> bool:
        """Return True if Host or an absolute target names another origin than the tunnel's (RFC 9110 7.4).

        A malformed target does not count: `decide` refuses it.
        """
        host = head.host
        if host is not None and host not in self.hosts and not self._is_host(host):
            return True
        if head.target.startswith(self.base + b"/"):
            return False
        try:
            return parse_target(head.target.decode("latin-1")).origin != self.origin
        except InvalidTarget:
            return False

    def _is_host(self, host: bytes) -> bool:
        try:
            return parse_origin(self.origin.scheme, host.strip(b" \t").decode("latin-1")) == self.origin
        except InvalidTarget:
            return False
