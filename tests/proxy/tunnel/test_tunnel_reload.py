"""Other rules under tunnels that stay open: each request inside goes by the rules of its own start."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace

import pytest

from sidekey.ca.authorities import CaRules
from sidekey.snapshot.snapshot import Integration
from support.leaves import IssuedLeaves
from support.next_snapshot import adopt
from support.plane import CREDENTIAL, UPSTREAM, base_url, callers_of, integration, running
from support.private_ca import Authority
from support.tunnels import TlsCaller, tunnel
from support.upstream import RawUpstream, always_ok
from support.wire import Message

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])


def secure(
    port: int, ca: Authority, path: str = "/api", key: str = CREDENTIAL.decode(), name: str = "h"
) -> Integration:
    """An integration whose upstream is https on this port."""
    headers = (("Authorization", key),)
    return integration(name, base_url(port, path, scheme="https"), trust=ca.trust, headers=headers)


async def ask(caller: TlsCaller, port: int, path: str = "/api/a", *fields: str) -> Message:
    """The response to a request inside."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {UPSTREAM}:{port}", *fields, "", ""]
    await caller.send("\r\n".join(lines).encode())
    return await caller.response()


def code(response: Message) -> str:
    """What a response of Sidekey's own says."""
    said: str = json.loads(response.body)["code"]
    return said


async def test_a_kept_tunnel_goes_by_the_rules_of_now(ca: Authority) -> None:
    """Through a hundred reloads: credential and policy are those of the request's start."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(secure(port, ca, key="0"), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}") as caller,
        ):
            for number in range(100):
                adopt(sidekey, secure(port, ca, f"/{number}", key=str(number)))
                assert (await ask(caller, port, f"/{number}/a")).status == 200
                assert code(await ask(caller, port, f"/{number - 1}/a")) == "target_denied"
        assert [each.values(b"authorization") for each in upstream.requests] == [[b"%d" % n] for n in range(100)]


async def test_a_host_that_ca_hosts_no_longer_has_is_refused_in_an_open_tunnel(ca: Authority) -> None:
    """To a stored integration, whether the target was requested before or not."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        stored, allowed = replace(secure(port, ca), stored=True), CaRules(hosts=(UPSTREAM,))
        async with running(leaves=IssuedLeaves(ca)) as sidekey:
            adopt(sidekey, stored, ca=allowed)
            for path in ("/api/a", "/api/b"):
                async with tunnel(sidekey, ca, f"{UPSTREAM}:{port}") as caller:
                    assert (await ask(caller, port)).status == 200
                    adopt(sidekey, stored, ca=CaRules())
                    assert code(await ask(caller, port, path)) == "ca_unavailable"
                    adopt(sidekey, stored, ca=allowed)
        assert len(upstream.requests) == 2


@VERSIONS
async def test_an_integration_that_is_gone_ends_the_tunnel(ca: Authority, version: ssl.TLSVersion) -> None:
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(secure(port, ca), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", version=version) as caller,
        ):
            adopt(sidekey, secure(port, ca, name="other"))
            response = await ask(caller, port)
            assert (response.status, code(response)) == (403, "integration_denied")
            assert response.values(b"connection") == [b"close"]
            assert await caller.until_closed()


@VERSIONS
async def test_a_caller_that_is_gone_ends_the_tunnel(ca: Authority, version: ssl.TLSVersion) -> None:
    """With 403: inside there is no proxy to authenticate to."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(secure(port, ca), leaves=IssuedLeaves(ca), tokens={"one": None}) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", version=version, user="h:one") as caller,
        ):
            assert (await ask(caller, port)).status == 200
            adopt(sidekey, secure(port, ca), callers=callers_of({"two": None}))
            response = await ask(caller, port)
            assert (response.status, code(response)) == (403, "caller_denied")
            assert response.values(b"proxy-authenticate") == response.values(b"www-authenticate") == []
            assert await caller.until_closed()


async def test_callers_that_are_new_are_asked_of_tunnels_too(ca: Authority) -> None:
    """A tunnel from the time before has no token, unless its CONNECT had."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        async with (
            running(secure(port, ca), leaves=IssuedLeaves(ca)) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", user="h:x") as caller,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", user="h:one") as known,
        ):
            adopt(sidekey, secure(port, ca), callers=callers_of({"one": None}))
            assert code(await ask(caller, port)) == "caller_denied"
            assert (await ask(known, port)).status == 200


async def test_another_ca_touches_only_new_handshakes(ca: Authority, tmp_path_factory: object) -> None:
    """A kept tunnel goes on; the next one gets the new certificate."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port, leaves = upstream.port, IssuedLeaves(ca)
        async with (
            running(secure(port, ca), leaves=leaves) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}") as caller,
        ):
            other = Authority(tmp_path_factory.mktemp("other"))  # type: ignore[attr-defined]
            leaves.rotate(other)
            assert (await ask(caller, port)).status == 200
            async with tunnel(sidekey, other, f"{UPSTREAM}:{port}") as fresh:
                assert (await ask(fresh, port)).status == 200
            assert (await ask(caller, port)).status == 200


async def test_a_tunnel_by_host_takes_the_integration_of_each_target(ca: Authority) -> None:
    """And none once there is no such rule any more."""
    async with RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream:
        port = upstream.port
        one, two = secure(port, ca, "/one", "1", "one"), secure(port, ca, "/two", "2", "two")
        async with (
            running(one, two, leaves=IssuedLeaves(ca), matching=True) as sidekey,
            tunnel(sidekey, ca, f"{UPSTREAM}:{port}", user="") as caller,
        ):
            for path in ("/one/a", "/two/a", "/one"):
                assert (await ask(caller, port, path)).status == 200
            assert code(await ask(caller, port, "/three")) == "target_denied"
            assert code(await ask(caller, port, "/one/a", "X-Integration-Id: two")) == "target_denied"
            await sidekey.outcomes("one", c2xx=2)
            adopt(sidekey, one)
            assert code(await ask(caller, port, "/two/a")) == "target_denied"
            adopt(sidekey, one, matching=None)
            response = await ask(caller, port, "/one/a")
            assert (response.status, code(response)) == (403, "integration_required")
            assert response.values(b"proxy-authenticate") == []
            assert await caller.until_closed()
        assert [each.values(b"authorization") for each in upstream.requests] == [[b"1"], [b"2"], [b"1"]]
