"""A caller in a tunnel: CONNECT over a recorded connection, and TLS over it with access to each record."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support import wire
from support.plane import RunningPlane
from support.private_ca import Authority
from support.raw_connection import ConnectionEnded, RawConnection

HOST = "up.test"


def connect_request(authority: str, *fields: str, user: str = "h:x", version: str = "1.1") -> bytes:
    """Build a CONNECT as clients send it. `user` is the proxy user with its password (empty: none)."""
    lines = [f"CONNECT {authority} HTTP/{version}", f"Host: {authority}"]
    if user:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}")
    return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1")


def tunnel_get(port: int, target: str = "/api/a", *fields: str, host: str | None = None) -> bytes:
    """Build a GET as a client sends it in a tunnel."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host or f'{HOST}:{port}'}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


class TlsCaller:
    """A client's TLS over a connection with an open tunnel."""

    def __init__(self, raw: RawConnection, context: ssl.SSLContext, server_name: str | None) -> None:
        self.raw = raw
        self.plain = bytearray()
        self.consumed = 0
        self.closed_by_notify = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._seen = 0

    def hello(self) -> bytes:
        """Return the ClientHello, which is not sent yet."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        raise AssertionError("a handshake needs two")

    async def handshake(self) -> None:
        """Complete the handshake. Raises ssl.SSLError, or ConnectionEnded if the other end closes."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()
            else:
                await self._flush()
                return

    async def send(self, data: bytes) -> None:
        """Encrypt and send."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.tls.write(rest) :]
            await self._flush()

    async def response(self, *, to_head: bool = False) -> wire.Message:
        """Read the next response."""
        while True:
            message = wire.first_response(
                bytes(self.plain[self.consumed :]), to_head=to_head, ended=self.closed_by_notify
            )
            if message is not None:
                self.consumed += message.length
                return message
            if self.closed_by_notify:
                raise ConnectionEnded(f"the connection ended after {bytes(self.plain[self.consumed :])!r}")
            await self._read()

    async def until_contains(self, mark: bytes) -> None:
        """Read until this is received."""
        while mark not in self.plain:
            await self._read()

    async def until_closed(self) -> bool:
        """Read to the end, and return True if that was close_notify."""
        try:
            while not self.closed_by_notify:
                await self._read()
        except ConnectionEnded:
            pass
        return self.closed_by_notify

    async def _read(self) -> None:
        try:
            piece = self.tls.read(65536)
        except ssl.SSLWantReadError:
            await self._more()
        except ssl.SSLZeroReturnError:
            self.closed_by_notify = True
        else:
            if piece:
                self.plain += piece
            else:
                self.closed_by_notify = True

    async def _more(self) -> None:
        await self.raw.until(lambda: len(self.raw.received) > self.raw.consumed)
        data = bytes(self.raw.received[self.raw.consumed :])
        self.raw.consumed += len(data)
        self._incoming.write(data)

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self.raw.send(data)


def client_context(ca: Authority, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Build the context of a caller that trusts the CA, with one TLS version."""
    context = ca.client_context()
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@asynccontextmanager
async def tunnel(
    sidekey: RunningPlane,
    ca: Authority,
    authority: str,
    *fields: str,
    user: str = "h:x",
    version: ssl.TLSVersion | None = None,
    server_name: str = HOST,
) -> AsyncIterator[TlsCaller]:
    """Open a tunnel to `authority`, including its handshake."""
    async with sidekey.connect() as raw:
        await raw.send(connect_request(authority, *fields, user=user))
        granted = await raw.response(to_head=True)
        assert granted.status == 200, (granted.status, granted.body)
        caller = TlsCaller(raw, client_context(ca, version), server_name)
        await caller.handshake()
        yield caller


def problem_of(response: wire.Message) -> dict[str, Any]:
    """Parse a response of Sidekey itself to a CONNECT or inside a tunnel."""
    document: dict[str, Any] = json.loads(response.body)
    return document
