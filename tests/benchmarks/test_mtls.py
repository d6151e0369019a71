"""The rows of TLS identities, short: real peers, and an upstream that demands the client certificate."""

from __future__ import annotations

import socket
import ssl

from benchmarks import wire
from benchmarks.arena import Arena
from benchmarks.clients import ClientPair
from benchmarks.load import Load
from benchmarks.peers import PEERS
from benchmarks.rows.mtls import Certificates, NewConnections
from benchmarks.upstream import HOST, Upstream
from support.peers import require


def test_new_connections_are_measured_with_and_without_a_certificate(arena: Arena) -> None:
    """Each line has every peer, and the processor time of Sidekey is held against that of nginx."""
    require("nginx")
    require("wrk")
    peers = {name: PEERS[name] for name in ("sidekey", "nginx")}
    outcome = NewConnections(Load(4, seconds=1), peers, rounds=1).run(arena)
    assert outcome.failures == {}
    assert [line.label for line in outcome.lines] == [
        "CPU us a request, client certificate",
        "requests/s, client certificate",
        "CPU us a request, no certificate",
        "requests/s, no certificate",
    ]
    assert all(set(line.values) == {"sidekey", "nginx"} for line in outcome.lines)
    assert [line.reach is not None for line in outcome.lines] == [True, False, True, False]
    assert set(outcome.rounds) == {f"{peer}, {end} certificate" for peer in peers for end in ("client", "no")}


def test_every_certificate_is_used(arena: Arena) -> None:
    """The upstream demands one of each integration, or the row fails."""
    require("nginx")
    row = Certificates(count=3, starts=1)
    outcome = row.run(arena)
    assert outcome.failures == {}
    assert [line.label for line in outcome.lines] == [
        "load, s more than one",
        "KiB each, loaded",
        "KiB each, used once",
        "KiB each, connection kept",
    ]
    assert set(outcome.rounds) == {"sidekey, one", "sidekey, many", "sidekey, many kept"}
    assert row.name == "mtls3"


def test_the_upstream_serves_none_but_the_certificates_of_its_ca(arena: Arena) -> None:
    """So that an answer of 200 proves that a peer showed one."""
    require("nginx")
    for side in ("mtls", "mtls, once"):
        upstream = arena.upstreams[side]
        assert upstream.client is not None
        assert [status(upstream, pair) for pair in (None, upstream.client)] == [400, 200]


def status(upstream: Upstream, client: ClientPair | None) -> int:
    """What the upstream answers to a request with this certificate."""
    context = ssl.create_default_context(cafile=upstream.ca)
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    with (
        socket.create_connection(("127.0.0.1", upstream.port), 15) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        connection.sendall(wire.request("GET", "/api/hook"))
        head, _ = wire.receive_head(connection)
    return int(head.start[1])
