"""The rows of TLS identities, short: real peers, and an upstream that demands the client certificate."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack

import pytest

from benchmarks import wire
from benchmarks.arena import Arena
from benchmarks.clients import ClientPair
from benchmarks.figures import RESIDENT_IDLE, START, Sample
from benchmarks.pace import Pace
from benchmarks.peers import peers
from benchmarks.peers.sidekey import Sidekey
from benchmarks.processes import MeasureFailed
from benchmarks.rows.mtls import KEPT, MANY, ONE, RESIDENT_USED, Certificates, NewConnections
from benchmarks.upstream import HOST, Upstream
from support.peers import require
from support.raw import DEADLINE


def test_new_connections_are_measured_with_and_without_a_certificate(arena: Arena) -> None:
    """Both sides of the upstream are measured, and processor time of Sidekey is compared with that of nginx."""
    require("nginx")
    outcome = NewConnections(Pace(10, 0.2, connections=2), peers("nginx"), rounds=1).run(arena)
    assert outcome.failures == {}
    assert [line.label for line in outcome.lines] == [
        "CPU us a request, client certificate",
        "requests/s, client certificate",
        "CPU us a request, no certificate",
        "requests/s, no certificate",
    ]
    assert all(line.values["nginx"] > 0 for line in outcome.lines)
    assert [str(line.reach) for line in outcome.lines] == ["sidekey / nginx at most 1.2", "None"] * 2
    assert list(outcome.tls) == ["nginx, client certificate", "nginx, no certificate"]
    assert all(tls.startswith("TLSv1.3 X25519") for tls in outcome.tls.values())
    assert {subject: len(samples) for subject, samples in outcome.rounds.items()} == {
        "nginx, client certificate": 1,
        "nginx, no certificate": 1,
    }


def test_every_certificate_is_used(arena: Arena) -> None:
    """The upstream demands one of each integration; an integration without one fails the row."""
    require("nginx")
    pairs = tuple(arena.clients.issue(f"m{number}") for number in range(2))
    with ExitStack() as stack:
        running = arena.start(MANY, Sidekey(certificates=pairs), arena.upstreams["mtls, once"], stack)
        sample = Certificates(count=2).sample(running)
        assert sample[RESIDENT_USED] > 0
        with pytest.raises(MeasureFailed, match="certificate of m2 got 403"):
            Certificates(count=3).sample(running)


def test_what_a_certificate_costs_is_the_difference_of_many_to_one() -> None:
    """In seconds and KiB each; without a subject there are no lines."""
    medians: dict[str, Sample] = {
        subject: {START: start, RESIDENT_IDLE: idle, RESIDENT_USED: used}
        for subject, start, idle, used in (
            (ONE, 0.5, 60.0, 61.0),
            (MANY, 1.5, 60.0 + 1.024, 61.0 + 2.048),
            (KEPT, 1.5, 60.0 + 1.024, 61.0 + 3.072),
        )
    }
    lines = Certificates(count=100).lines(medians)
    assert {line.label: round(line.values["sidekey"], 6) for line in lines} == {
        "load, s more than one": 1,
        "KiB each, loaded": 10,
        "KiB each, used once": 20,
        "KiB each, connection kept": 30,
    }
    assert Certificates().lines({ONE: medians[ONE]}) == []


def test_the_upstream_serves_only_clients_with_a_certificate_of_its_ca(arena: Arena) -> None:
    """So a 200 proves that a peer presented one."""
    require("nginx")
    for side in ("mtls", "mtls, once"):
        upstream = arena.upstreams[side]
        assert upstream.client is not None
        assert [status(upstream, pair) for pair in (None, upstream.client)] == [400, 200]


def status(upstream: Upstream, client: ClientPair | None) -> int:
    """The status of a request with this certificate."""
    context = ssl.create_default_context(cafile=upstream.ca)
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    with (
        socket.create_connection(("127.0.0.1", upstream.port), DEADLINE) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        connection.sendall(wire.request("GET", "/api/hook"))
        head, _ = wire.receive_head(connection)
    return int(head.start[1])
