"""What is added beside a credential, as it arrives at an upstream, byte for byte."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.ca import Authority
from support.raw import connect
from support.serving import HEAD, Serving, serving
from support.upstream import RawUpstream

BASIC = b64encode(b"svc:hunter2")
PLACES = "headers: {X-Tenant: acme, X-Key: {prefix: 'Key ', secret: {file: key}}}, query: {key: {secret: {file: key}}}"
QUERY = b"key=a%2Bb%20%C3%BC%26c%3Dd"
"""How the secret of these tests travels in a query or form."""


def beside(port: int, add: str, more: str = "") -> str:
    return (
        f"  it: {{endpoint_prefix: 'http://127.0.0.1:{port}/v1', auth: {{type: basic, username: svc, "
        f"password: {{file: password}}}}, add: {{{add}}}{more}}}\n"
    )


@asynccontextmanager
async def added(
    folder: Path, ca: Authority, add: str = PLACES, more: str = ""
) -> AsyncIterator[tuple[Serving, RawUpstream]]:
    (folder / "key").write_text("a+b \u00fc&c=d\n")
    (folder / "password").write_text("hunter2\n")
    async with RawUpstream() as upstream:
        head = HEAD.replace("log:", "ca: {{folder: ca}}\nlog:")
        async with serving(beside(upstream.port, add, more), folder, ca, head=head) as sidekey:
            yield sidekey, upstream


def sent(port: int, target: bytes, body: bytes = b"", *fields: bytes, method: bytes = b"GET") -> bytes:
    """A request as it must arrive."""
    lines = [
        b"%b %b HTTP/1.1" % (method, target),
        b"Host: 127.0.0.1:%d" % port,
        b"X-Tenant: acme",
        b"X-Key: Key a+b \xc3\xbc&c=d",
        b"Authorization: Basic " + BASIC,
        *fields,
    ]
    return b"\r\n".join([*lines, b"", b""]) + body


def without_via(data: bytes) -> bytes:
    """Via names the process."""
    head, end, body = data.partition(b"\r\n\r\n")
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Via:")) + end + body


@pytest.mark.parametrize(
    ("path", "target"),
    [("/a", b"/v1/a?"), ("/a?x=%20y", b"/v1/a?x=%20y&"), ("/a?", b"/v1/a?"), ("/%61?key2=1&", b"/v1/%61?key2=1&")],
)
async def test_headers_and_query_go_beside_the_credential(
    path: str, target: bytes, ca: Authority, tmp_path: Path
) -> None:
    """By the reverse proxy, by the forward proxy, and in a tunnel: what is added first, then the grant."""
    async with added(tmp_path, ca) as (sidekey, upstream):
        port = upstream.port
        assert (await sidekey.reverse(path)).status == 200
        assert (await sidekey.forward(f"http://127.0.0.1:{port}/v1{path}")).status == 200
        async with connect(sidekey.port) as caller:
            opening = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nProxy-Authorization: Basic "
            await caller.send(f"{opening}{b64encode(b'it:').decode()}\r\n\r\n".encode())
            assert (await caller.response(to_head=True)).status == 200
            await caller.send(f"GET /v1{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert (await caller.response()).status == 200
        whole = b"".join(upstream.received)
        every = [without_via(request) for request in whole.replace(b"GET ", b"\0GET ").split(b"\0")[1:]]
        assert every == [sent(port, target + QUERY)] * 3
