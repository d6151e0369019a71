"""Admit one request head at a data plane, without a connection."""

from __future__ import annotations

from sidekey.errors import Problem
from sidekey.policy.messages import RequestHead
from sidekey.policy.tunnel import TunnelContext
from sidekey.proxy.data_plane import DataPlane
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.exchange.exchange import Exchange
from sidekey.proxy.routing.compiled import Destination


def head_of(
    target: str, *, method: bytes = b"GET", host: bytes | None = b"h.test", integration_id: bytes | None = None
) -> RequestHead:
    """Build the head of a request for this target."""
    return RequestHead(method, target.encode("latin-1"), host, [], [], integration_id=integration_id)


def admit(plane: DataPlane, head: RequestHead, entry: TunnelContext | None = None) -> Destination | Problem:
    """Return the decision on a head, from the fast or the full parser. `entry` is its tunnel."""
    exchange = Exchange(plane.worker, plane.router, plane.connection(), CallerRequest(head, plane.worker.rules), entry)
    problem = exchange._admit()
    destination = exchange._destination
    assert problem is not None or destination is not None
    return problem or destination  # type: ignore[return-value]
