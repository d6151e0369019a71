"""Tunnels loaded by the program in Go, through real peers, and what the rows make of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.arena import Arena, Comparison, Running
from benchmarks.figures import CPU, P50, P99, P999, RATE, Line, Outcome
from benchmarks.pace import Pace
from benchmarks.peers import PEERS
from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.sidekey import Sidekey
from benchmarks.probe import read_page
from benchmarks.processes import MeasureFailed
from benchmarks.rows.tunnel import Hosts, Kept, New, envoy_way, mitmproxy_way, sidekey_hosts, sidekey_way
from benchmarks.tunnels import TunnelLoad, Way, parse
from support.peers import require


@pytest.fixture(scope="module")
def load(arena: Arena) -> TunnelLoad:
    """A load of two requests, whose way is yet to be given."""
    require("go")
    require("nginx")
    return TunnelLoad(arena.tunnel_callers, Way(""), connections=2, seconds=20, limit=2)


@pytest.fixture(scope="module")
def sidekey(arena: Arena) -> Iterator[Running]:
    """With two hosts more."""
    with ExitStack() as stack:
        yield arena.start("sidekey", Sidekey(tunnel_hosts=2), arena.upstreams["https"], stack)


def opened(running: Running) -> dict[str, int]:
    """How many tunnels were opened so far, by integration."""
    page = read_page(running.job.admin_port, "/metrics")
    series = r'^sidekey_tunnels_total\{integration="(\w+)",outcome="opened"\} (\d+)'
    return {name: int(count) for name, count in re.findall(series, page, re.MULTILINE)}


def test_kept_and_new_tunnels_to_one_host_and_to_many(arena: Arena, sidekey: Running, load: TunnelLoad) -> None:
    """The first tunnel of each load checks what the upstream is sent; the reverse proxy needs no tunnel."""
    upstream, (port, folder) = arena.upstreams["https"], (sidekey.job.port, sidekey.job.folder)
    requests, seen = replace(load, way=sidekey_way(upstream), limit=10).measure(port, "", folder)
    assert requests == 10
    assert seen[RATE] > 0
    assert 0 < seen[P50] <= seen[P99]
    assert opened(sidekey) == {"bench": 3}
    replace(load, way=sidekey_hosts(upstream), once=True, hosts=2, limit=4).measure(port, "", folder)
    assert opened(sidekey) == {"bench": 3, "g0": 5}
    replace(load, way=Way("127.0.0.1", "/i/bench/")).measure(port, "", folder)
    assert opened(sidekey) == {"bench": 3, "g0": 5}


def test_tunnels_are_held_while_the_block_runs(arena: Arena, sidekey: Running, load: TunnelLoad) -> None:
    """All of them are open when it begins."""
    held = replace(load, way=sidekey_way(arena.upstreams["https"]), once=True, limit=5)
    with held.beside(sidekey.job.port, sidekey.job.folder, hold=True):
        page = read_page(sidekey.job.admin_port, "/metrics")
        assert 'sidekey_tunnels{mode="terminated"} 5\n' in re.sub(r"\.0$", "", page, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ({"authority": "other.example:443"}, "CONNECT other.example:443: HTTP/1.1 403 target_denied"),
        ({"roots": "../upstream/ca.pem"}, "TLS for upstream.example: "),
        ({"base": "/api/v1/"}, "did not receive exactly one Authorization header"),
    ],
)
def test_a_request_that_fails_fails_the_load(
    way: dict[str, str], reason: str, arena: Arena, sidekey: Running, load: TunnelLoad
) -> None:
    """With what it was: refused, not trusted, or without the credential at the upstream."""
    changed = replace(sidekey_way(arena.upstreams["https"]), **way)
    with pytest.raises(MeasureFailed, match=reason):
        replace(load, way=changed).measure(sidekey.job.port, "", sidekey.job.folder)
    for hold in (True, False):
        with (
            pytest.raises(MeasureFailed, match=reason),
            replace(load, way=changed).beside(sidekey.job.port, sidekey.job.folder, hold=hold),
        ):
            pass


@pytest.mark.parametrize("name", ["envoy", "mitmproxy"])
def test_peers_that_end_the_tls_of_callers_add_the_credential(arena: Arena, load: TunnelLoad, name: str) -> None:
    """Over TLS without a CONNECT, and in tunnels with a certificate of their own CA."""
    peer: Peer = Envoy(terminating=True) if name == "envoy" else PEERS[name]
    if peer.program() is None:
        pytest.skip(f"{name} is installed by make bench")
    upstream = arena.upstreams["https"]
    way = envoy_way(upstream) if name == "envoy" else mitmproxy_way(f"h{{}}.{upstream.authority}")
    with ExitStack() as stack:
        running = arena.start(name, peer, upstream, stack)
        loaded = replace(load, way=way, once=True, hosts=2)
        assert loaded.measure(running.job.port, "", running.job.folder)[0] == 2


def test_a_pace_that_is_lost_fails_the_load(arena: Arena, sidekey: Running, load: TunnelLoad) -> None:
    """Beside another load too: it would seem to cost that one less."""
    fast = replace(load, way=sidekey_way(arena.upstreams["https"]), rate=1e6)
    with pytest.raises(MeasureFailed, match="of 1e\\+06 tunnels/s: the proxy or the load did not keep pace"):
        fast.measure(sidekey.job.port, "", sidekey.job.folder)
    with pytest.raises(MeasureFailed, match="keep pace"), fast.beside(sidekey.job.port, sidekey.job.folder):
        pass


def test_a_load_without_a_result_is_a_failure() -> None:
    """It is never reported as a rate of zero."""
    assert parse('{"microseconds":2000000,"p50":410,"p99":1200,"requests":9000}\n') == (
        9000,
        {RATE: 4500.0, P50: 0.41, P99: 1.2},
    )
    with pytest.raises(MeasureFailed, match="no result: nothing of the kind"):
        parse("nothing of the kind")


def lines(outcome: Outcome) -> dict[str, tuple[dict[str, float], str]]:
    """Values and reach of each line."""
    return {line.label: (dict(line.values), line_reach(line)) for line in outcome.lines}


def line_reach(line: Line) -> str:
    return "" if line.reach is None else str(line.reach)


def test_kept_tunnels_are_compared_with_envoy_and_with_the_reverse_proxy() -> None:
    """The same Sidekey by both ways; without one of them there is no share."""
    rounds = {"sidekey": 33.0, "sidekey pure": 40.0, "envoy": 55.0, "sidekey, reverse proxy": 30.0}
    found = lines(Kept().outcome(Comparison(rounds={name: [{RATE: 1.0, CPU: us}] for name, us in rounds.items()})))
    assert found == {
        "requests/s": ({"sidekey": 1, "sidekey pure": 1, "envoy": 1}, ""),
        "CPU us a request": ({"sidekey": 33, "sidekey pure": 40, "envoy": 55}, ""),
        "CPU of envoy / CPU of sidekey": ({"envoy": 55 / 33}, "envoy at least 1.3"),
        "CPU us a request, reverse proxy": ({"sidekey": 30}, ""),
        "CPU / CPU at the reverse proxy": ({"sidekey": 1.1}, "sidekey at most 1.25"),
    }
    del rounds["sidekey"]
    found = lines(Kept().outcome(Comparison(rounds={name: [{RATE: 1.0, CPU: us}] for name, us in rounds.items()})))
    assert list(found) == ["requests/s", "CPU us a request", "CPU of envoy / CPU of sidekey"]


def test_new_tunnels_are_compared_with_mitmproxy_by_what_is_there_already() -> None:
    """Warm and cold have reaches of their own."""
    one = Comparison(rounds={"sidekey": [{RATE: 900.0, CPU: 700.0}], "mitmproxy": [{RATE: 90.0, CPU: 7000.0}]})
    outcome = New().outcome({"warm": one, "cold": one})
    values, us = {"sidekey": 900.0, "mitmproxy": 90.0}, {"sidekey": 700.0, "mitmproxy": 7000.0}
    assert lines(outcome) == {
        "tunnels/s, warm": (values, ""),
        "CPU us a tunnel, warm": (us, "mitmproxy / sidekey at least 8"),
        "tunnels/s, cold": (values, ""),
        "CPU us a tunnel, cold": (us, "mitmproxy / sidekey at least 2.5"),
    }
    assert set(outcome.rounds) == {f"{name}, {leaves}" for name in values for leaves in ("warm", "cold")}


def test_what_new_hosts_cost_the_others_is_a_difference_of_medians() -> None:
    """In milliseconds."""
    rounds = {
        side: [{P50: 1.0, P99: 2.0, P999: value} for value in values]
        for side, values in (("without tunnels", (3.0, 4.0, 9.0)), ("beside new hosts", (5.0, 6.0, 90.0)))
    }
    found = lines(Hosts(Pace(10, 1)).outcome(rounds))
    assert found["p99.9 ms more beside new hosts"] == ({"sidekey": 2.0}, "sidekey at most 10")
    assert found["p99.9 ms, without tunnels"] == ({"sidekey": 4.0}, "")


def test_a_program_that_does_not_compile_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler's own words."""
    require("go")
    from benchmarks import tunnels

    broken = tmp_path / "broken.go"
    broken.write_text("package main\n\nfunc main() { nothing }\n")
    monkeypatch.setattr(tunnels, "_SOURCE", broken)
    with pytest.raises(MeasureFailed, match="undefined: nothing"):
        tunnels.build(tmp_path)
