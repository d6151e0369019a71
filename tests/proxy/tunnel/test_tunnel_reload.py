"""Reloads under open tunnels: each request follows the rules at its start."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace

import pytest

from sidekey.ca.authorities import CaRules
from support.leaves import IssuedLeaves
from support.next_snapshot import publish
from support.plane import UPSTREAM, callers_of, https_integration, running
from support.private_ca import Authority
from support.tunnels import TlsCaller, tunnel
from support.upstream import RawUpstream, always_ok
from support.wire import Message

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


async def send(caller: TlsCaller, port: int, path: str = "/api/a", *fields: str) -> Message:
    """Send a request in the tunnel, and return the response."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {UPSTREAM}:{port}", *fields, "", ""]
    await caller.send("\r\n".join(lines).encode())
    return await caller.response()


def code(response: Message) -> str:
    """Return the code of a problem."""
    error: str = json.loads(response.body)["code"]
    return error


async def test_open_tunnel_follows_the_current_rules(ca: Authority) -> None:
    """Through a hundred reloads."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(https_integration(port, ca, key="0"), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}") as caller,
        ):
            for number in range(100):
                publish(sidekey, https_integration(port, ca, f"/{number}", key=str(number)))
                assert (await send(caller, port, f"/{number}/a")).status == 200
                assert code(await send(caller, port, f"/{number - 1}/a")) == "target_denied"
        assert [item.values(b"authorization") for item in upstream.requests] == [[b"%d" % n] for n in range(100)]


async def test_host_removed_from_ca_hosts_is_refused_in_an_open_tunnel(ca: Authority) -> None:
    """For a stored integration, with or without a previous request."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        stored, allowed = replace(https_integration(port, ca), stored=True), CaRules(hosts=(UPSTREAM,))
        async with running(leaves=IssuedLeaves(ca)) as sidekey:
            publish(sidekey, stored, ca=allowed)
            for path in ("/api/a", "/api/b"):
                async with tunnel(sidekey, ca, f"{UPSTREAM}:{port}") as caller:
                    assert (await send(caller, port)).status == 200
                    publish(sidekey, stored, ca=CaRules())
                    assert code(await send(caller, port, path)) == "ca_unavailable"
                    publish(sidekey, stored, ca=allowed)
        assert len(upstream.requests) == 2


@VERSIONS
async def test_removed_integration_closes_the_tunnel(ca: Authority, version: ssl.TLSVersion) -> None:
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(https_integration(port, ca), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", version=version) as caller,
        ):
            publish(sidekey, https_integration(port, ca, name="other"))
            response = await send(caller, port)
            assert (response.status, code(response)) == (403, "integration_denied")
            assert response.values(b"connection") == [b"close"]
            assert await caller.until_closed()


@VERSIONS
async def test_removed_caller_closes_the_tunnel(ca: Authority, version: ssl.TLSVersion) -> None:
    """403, because there is no proxy authentication inside a tunnel."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(https_integration(port, ca), leaves=IssuedLeaves(ca), tokens={"one": None}) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", version=version, user="h:one") as caller,
        ):
            assert (await send(caller, port)).status == 200
            publish(sidekey, https_integration(port, ca), callers=callers_of({"two": None}))
            response = await send(caller, port)
            assert (response.status, code(response)) == (403, "caller_denied")
            assert response.values(b"proxy-authenticate") == response.values(b"www-authenticate") == []
            assert await caller.until_closed()


async def test_new_callers_require_a_token_in_open_tunnels(ca: Authority) -> None:
    """An older tunnel has a token only if its CONNECT had one."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(https_integration(port, ca), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", user="h:x") as caller,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", user="h:one") as known,
        ):
            publish(sidekey, https_integration(port, ca), callers=callers_of({"one": None}))
            assert code(await send(caller, port)) == "caller_denied"
            assert (await send(known, port)).status == 200


async def test_new_ca_applies_only_to_new_handshakes(ca: Authority, tmp_path_factory: object) -> None:
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port, leaves = upstream.port, IssuedLeaves(ca)
        async with (
            running(https_integration(port, ca), leaves=leaves) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}") as caller,
        ):
            other = Authority(tmp_path_factory.mktemp("other"))  # type: ignore[attr-defined]
            leaves.rotate(other)
            assert (await send(caller, port)).status == 200
            async with tunnel(sidekey, other, f"{UPSTREAM}:{port}") as fresh:
                assert (await send(fresh, port)).status == 200
            assert (await send(caller, port)).status == 200


async def test_tunnel_without_an_id_uses_the_integration_of_each_target(ca: Authority) -> None:
    """Until the rule is removed."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        one, two = (
            https_integration(port, ca, "/one", "1", name="one"),
            https_integration(port, ca, "/two", "2", name="two"),
        )
        async with (
            running(one, two, leaves=IssuedLeaves(ca), matching=True) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", user="") as caller,
        ):
            for path in ("/one/a", "/two/a", "/one"):
                assert (await send(caller, port, path)).status == 200
            assert code(await send(caller, port, "/three")) == "target_denied"
            assert code(await send(caller, port, "/one/a", "X-Integration-Id: two")) == "target_denied"
            await sidekey.wait_for_outcomes("one", c2xx=2)
            publish(sidekey, one)
            assert code(await send(caller, port, "/two/a")) == "target_denied"
            publish(sidekey, one, matching=None)
            response = await send(caller, port, "/one/a")
            assert (response.status, code(response)) == (403, "integration_required")
            assert response.values(b"proxy-authenticate") == []
            assert await caller.until_closed()
        assert [item.values(b"authorization") for item in upstream.requests] == [[b"1"], [b"2"], [b"1"]]
