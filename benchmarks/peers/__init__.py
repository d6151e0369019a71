"""The compared programs, each in a module of its own."""

from __future__ import annotations

import sys

from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.haproxy import Haproxy
from benchmarks.peers.mitmproxy import Mitmproxy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.sidekey import Sidekey

PURE = "sidekey pure"
"""The column of a Sidekey that is not compiled: the one that is installed for the interpreter of this process."""

PEERS: dict[str, Peer] = {
    "sidekey": Sidekey(),
    PURE: Sidekey(interpreter=sys.executable),
    "envoy": Envoy(),
    "nginx": Nginx(),
    "haproxy": Haproxy(),
    "mitmproxy": Mitmproxy(),
}
"""Every peer as most rows need it, by its column in the table."""

FORWARDING = tuple(name for name in PEERS if name != "mitmproxy")
"""Those that most rows compare: mitmproxy only serves tunnels as Sidekey does."""


def peers(*columns: str) -> dict[str, Peer]:
    """Return the peers of these columns."""
    return {column: PEERS[column] for column in columns}
