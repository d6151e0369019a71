"""How requests come in by a tunnel: what of the CONNECT counts for each of them.

Nothing else of the CONNECT does. A request in a tunnel is the request for the absolute URL it stands for, with the
names that were given at the CONNECT beside its own: `core.decide` judges it as it does at the forward proxy, by the
rules of the request's own start.
"""

from __future__ import annotations

from typing import Final

from sidekey.policy.messages import RequestHead
from sidekey.policy.urls import DEFAULT_PORTS, InvalidTarget, Origin, parse_origin, parse_target


class TunnelEntry:
    """A tunnel's origin, the integration that was named at its CONNECT, and the caller's token, as far as given.

    `base` is the origin as it begins an absolute URL, `hosts` are the values of Host that name it as clients mostly do.
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

    def absolute(self, head: RequestHead) -> RequestHead:
        """The head with the absolute URL that an origin-form stands for here (RFC 9112 3.3)."""
        target = head.target
        return head.at(self.base + target) if target.startswith(b"/") else head

    def misdirects(self, head: RequestHead) -> bool:
        """Whether Host, or a target that came absolute, names another authority than the tunnel's (RFC 9110 7.4).

        A target that is malformed is not judged here.
        """
        host = head.host
        if host is not None and host not in self.hosts and not self._is_own(host):
            return True
        if head.target.startswith(self.base + b"/"):
            return False
        try:
            return parse_target(head.target.decode("latin-1")).origin != self.origin
        except InvalidTarget:
            return False

    def _is_own(self, host: bytes) -> bool:
        try:
            return parse_origin(self.origin.scheme, host.strip(b" \t").decode("latin-1")) == self.origin
        except InvalidTarget:
            return False
