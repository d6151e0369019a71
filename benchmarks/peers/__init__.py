"""The programs that are compared, each in a module of its own."""

from __future__ import annotations

from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.haproxy import Haproxy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.sidekey import Sidekey

PEERS: dict[str, Peer] = {peer.name: peer for peer in (Sidekey(), Envoy(), Nginx(), Haproxy())}
"""Every peer as most rows want it, by its column in the table."""
