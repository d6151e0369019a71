"""Spellings by which a caller might name another place at the forward door than the one that is judged."""

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
async def test_a_foreign_spelling_takes_no_credential_anywhere(target: str) -> None:
    """Neither the integration of a name nor that of a literal address sends anything for such a target."""
    async with RawUpstream() as upstream:
        port = upstream.port
        prefixes = [f"http://{place}/api".replace("PORT", str(port)) for place in (NAME, LITERAL)]
        async with running(integration("name", prefixes[0]), integration("literal", prefixes[1])) as sidekey:
            for name in ("name", "literal"):
                line = f"GET {target.replace('PORT', str(port))} HTTP/1.1"
                answer = await sidekey.ask(f"{line}\r\nHost: {UPSTREAM}\r\nX-Integration-Id: {name}\r\n\r\n".encode())
                assert answer.status in (400, 403)
                assert problem(answer)["code"] in ("request_invalid", "target_denied")
        assert upstream.connections == []


@pytest.mark.parametrize("scheme", ["http", "HTTP", "hTTp"])
async def test_case_of_scheme_and_host_does_not_count(scheme: str) -> None:
    """The same place in other capitals is the same place, and Host is written as the policy writes it."""
    async with RawUpstream() as upstream:
        place = f"{UPSTREAM}:{upstream.port}"
        async with running(integration("h", f"http://{place}/api")) as sidekey:
            line = f"GET {scheme}://{place.upper()}/api/a HTTP/1.1"
            answer = await sidekey.ask(f"{line}\r\nHost: evil.test\r\nX-Integration-Id: h\r\n\r\n".encode())
            assert answer.status == 200
        (request,) = upstream.requests
        assert (request.target, request.values(b"host")) == (b"/api/a", [place.encode()])


@pytest.mark.parametrize("host", ["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::0:1]"])
async def test_every_spelling_of_an_ipv6_address_is_the_same_place(host: str) -> None:
    """RFC 4291 2.2: what reaches the upstream names it as the policy does."""
    server: list[RawConnection] = []
    loop = asyncio.get_running_loop()
    try:
        listening = await loop.create_server(lambda: RawConnection(server.append), "::1", 0)
    except OSError:
        pytest.skip("this machine has no ::1")
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        made = integration("h", f"http://[::1]:{port}/api", allow_private=(ip_network("::1/128"),))
        async with running(made) as sidekey, sidekey.connect() as caller:
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
async def test_what_is_not_that_ipv6_address_is_another_place_or_none(host: str) -> None:
    """Refused before anything is dialled."""
    async with running(integration("h", "http://[::1]:8080/api")) as sidekey:
        line = f"GET http://{host}:8080/api/a HTTP/1.1"
        answer = await sidekey.ask(f"{line}\r\nHost: x\r\nX-Integration-Id: h\r\n\r\n".encode())
        assert problem(answer)["code"] in ("request_invalid", "target_denied")
