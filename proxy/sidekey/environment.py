"""`sidekey env`: the variables that make HTTP clients send their http:// requests through the forward proxy."""

from __future__ import annotations

import shlex
from ipaddress import ip_address

from sidekey.runtime.snapshot import Address, Snapshot

TOKEN_PLACE = "PUT-THE-CALLERS-TOKEN-HERE"  # noqa: S105 - says where a token goes
"""Stands for the caller's token, which is never printed."""

_ANY_WORD = "x"
"""Clients send proxy credentials unprompted only where the password is not empty."""

_NO_PROXY = "localhost,127.0.0.1,::1"


class NoProxyUrl(ValueError):
    """The proxy listener has no address that a proxy URL can name; the message says why and the way out."""


def environment(snapshot: Snapshot, integration: str) -> dict[str, str]:
    """Variable names and values, in both cases: curl reads http_proxy alone. Raises NoProxyUrl."""
    password = TOKEN_PLACE if snapshot.callers else _ANY_WORD
    url = f"http://{integration}:{password}@{_authority(snapshot.listen.proxy)}"
    return {"HTTP_PROXY": url, "http_proxy": url, "NO_PROXY": _NO_PROXY, "no_proxy": _NO_PROXY}


def export_lines(variables: dict[str, str]) -> list[str]:
    """Lines for a POSIX shell to evaluate."""
    return [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]


def _authority(address: Address) -> str:
    if address.path is not None:
        raise NoProxyUrl(
            "listen.proxy: a unix socket cannot be a proxy URL: use the reverse proxy, or listen on ADDRESS:PORT"
        )
    if address.port == 0:
        raise NoProxyUrl("listen.proxy: port 0 is chosen at start: write another port")
    return str(reachable(address))


def reachable(address: Address) -> Address:
    """The address by which this machine reaches a listener: its loopback where it listens on all addresses."""
    if address.path is not None or not ip_address(address.host).is_unspecified:
        return address
    return Address("::1" if ":" in address.host else "127.0.0.1", address.port)
