"""Spellings of a target at the forward proxy that other software could read as another host."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

import pytest

from support.plane import UPSTREAM, eventually, integration, problem, running
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream

NAME = f"{UPSTREAM}:PORT"
LITERAL = "127.0.0.1:PORT"


@pytest.mark.parametrize(
    "target",
    [
        f"http://evil@{NAME}/api/a",
        f"http://{NAME}@evil.test/api/a",
        f"http://{NAME}\\@evil.test/api/a",
        f"http://{NAME}#@evil.test/api/a",
        f"http://{UPSTREAM}.:PORT/api/a",
        f"http://{UPSTREAM.replace('.', '%2e')}:PORT/api/a",
        f"http://{UPSTREAM}:0PORT/api/a",
        f"http://{UPSTREAM}:+PORT/api/a",
        f"http:///{NAME}/api/a",
        "http://:PORT/api/a",
        "http:up.test/api/a",
        f"ftp://{NAME}/api/a",
        f"ws://{NAME}/api/a",
        f"http://{NAME}?/api/a",
        f"http:/{NAME}/api/a",
        f"http:\\\\{NAME}/api/a",
        f"http://{UPSTREAM}\t:PORT/api/a",
        f"http://{NAME}:80/api/a",
        f"http://{UPSTREAM}/api/a",
        f"http://{UPSTREAM}:/api/a",
        f"http://[{UPSTREAM}]:PORT/api/a",
        "http://[127.0.0.1]:PORT/api/a",
        f"http://{UPSTREAM}%00.evil.test:PORT/api/a",
        f"http://{UPSTREAM}%23@evil.test:PORT/api/a",
        f"http://{NAME}%2fapi/a",
        f"http://{NAME}\\api/a",
        f"http://{NAME}/api/../a",
        f"http://{NAME}/api/%2e%2e/a",
        f"http://{NAME}/api/..;x/a",
        f"http://{NAME}/api/%252e%252e%252fa",
        "http://127.1:PORT/api/a",
        "http://0177.0.0.1:PORT/api/a",
        "http://0x7f000001:PORT/api/a",
        "http://2130706433:PORT/api/a",
        "http://[::ffff:127.0.0.1]:PORT/api/a",
        "http://[::1%25lo]:PORT/api/a",
        "http://localhost:PORT/api/a",
    ],
)
async def test_ambiguous_spelling_gets_no_credential(target: str) -> None:
    """Neither with an integration for a name nor for an address."""
    async with RawUpstream() as upstream:
        port = upstream.port
        prefixes = [f"http://{place}/api".replace("PORT", str(port)) for place in (NAME, LITERAL)]
        async with running(integration("name", prefixes[0]), integration("literal", prefixes[1])) as sidekey:
            for name in ("name", "literal"):
                line = f"GET {target.replace('PORT', str(port))} HTTP/1.1"
                response = await sidekey.send(
                    f"{line}\r\nHost: {UPSTREAM}\r\nX-Integration-Id: {name}\r\n\r\n".encode()
                )
                assert response.status in (400, 403)
                assert problem(response)["code"] in ("request_invalid", "target_denied")
        assert upstream.connections == []


@pytest.mark.parametrize("scheme", ["http", "HTTP", "hTTp"])
async def test_scheme_and_host_are_case_insensitive(scheme: str) -> None:
    """Host has the spelling of the policy."""
    async with RawUpstream() as upstream:
        place = f"{UPSTREAM}:{upstream.port}"
        async with running(integration("h", f"http://{place}/api")) as sidekey:
            line = f"GET {scheme}://{place.upper()}/api/a HTTP/1.1"
            response = await sidekey.send(f"{line}\r\nHost: evil.test\r\nX-Integration-Id: h\r\n\r\n".encode())
            assert response.status == 200
        (request,) = upstream.requests
        assert (request.target, request.values(b"host")) == (b"/api/a", [place.encode()])


@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::0:1]"])
async def test_every_spelling_of_an_ipv6_address_is_equal(host: str) -> None:
    """RFC 4291 2.2. The upstream gets the spelling of the policy."""
    server: list[RawConnection] = []
    loop = asyncio.get_running_loop()
    try:
        listening = await loop.create_server(lambda: RawConnection(server.append), "::1", 0)
    except OSError:
        pytest.skip("this machine has no ::1")
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        configured = integration("h", f"http://[::1]:{port}/api", allow_private=(ip_network("::1/128"),))
        async with running(configured) as sidekey, sidekey.connect() as caller:
            await caller.send(
                f"GET http://{host}:{port}/api/a HTTP/1.1\r\nHost: x\r\nX-Integration-Id: h\r\n\r\n".encode()
            )
            await eventually(lambda: server)
            request = await server[0].request()
            assert (request.target, request.values(b"host")) == (b"/api/a", [b"[::1]:%d" % port])
            await server[0].send(OK)
            assert (await caller.response()).body == b"ok"
        await server[0].until_ended()
        server[0].close()
        await server[0].until_lost()


@pytest.mark.parametrize("host", ["[::2]", "[::ffff:0:1]", "[::1%25lo]", "[::1", "::1", "[::1]x", "[]", "[1]", "[::g]"])
async def test_other_ipv6_addresses_are_refused(host: str) -> None:
    """Before any connection."""
    async with running(integration("h", "http://[::1]:8080/api")) as sidekey:
        line = f"GET http://{host}:8080/api/a HTTP/1.1"
        response = await sidekey.send(f"{line}\r\nHost: x\r\nX-Integration-Id: h\r\n\r\n".encode())
        assert problem(response)["code"] in ("request_invalid", "target_denied")
