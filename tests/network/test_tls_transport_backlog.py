"""Writes while an incoming handshake message is incomplete. OpenSSL writes nothing meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sidekey.network.tls_transport import TlsTransport
from support import programs
from support.plane import eventually
from support.ports import free_port
from support.private_ca import Authority
from support.raw_connection import DEADLINE

FIRST = 17_000
"""Bytes of the request for the certificate that are let through: its first record, and a part of the second."""


def many_authorities(path: Path) -> None:
    """Build CAs whose names fill more than one TLS record."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    with path.open("wb") as file:
        for number in range(300):
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {number:03} " + "x" * 50)])
            builder = x509.CertificateBuilder(name, name, key.public_key(), number + 1, now, now + timedelta(days=1))
            file.write(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))


class Caller(asyncio.Protocol):
    """Records its events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {exc}")


class Relay:
    """A relay that holds back all but the first `FIRST` bytes of a long piece until it is released."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.passed = 0
        self.go_at: int | None = None
        self.holding = asyncio.Event()
        self.go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.tasks.append(asyncio.create_task(self.pass_on(reader, inner_writer, whole=True)))
        await self.pass_on(inner_reader, writer, whole=False)

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, whole: bool) -> None:
        passed = 0
        try:
            while data := await reader.read(65536):
                if not whole and self.go_at is not None and passed + len(data) > self.go_at + FIRST:
                    cut = self.go_at + FIRST - passed
                    writer.write(data[:cut])
                    self.holding.set()
                    await self.go.wait()
                    data, self.go_at = data[cut:], None
                passed += len(data)
                self.passed = passed
                writer.write(data)
        finally:
            writer.close()


@pytest.mark.parametrize("size", [6, 40_000])
async def test_queued_writes_arrive_after_the_message(ca: Authority, tmp_path: Path, size: int) -> None:
    """In order and complete. The protocol is paused meanwhile."""
    authorities, port, leaf = tmp_path / "many.pem", free_port(), ca.leaf("localhost")
    many_authorities(authorities)
    command = [programs.require("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_3", "-num_tickets", "0"]
    command += ["-cert", str(leaf.certificate), "-key", str(leaf.key), "-CAfile", str(authorities)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
    relay = Relay(port)
    try:
        await eventually(lambda: b"ACCEPT" in log.read_bytes())
        listener = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        context = ca.client_context()
        context.post_handshake_auth = True
        caller, ready = Caller(), loop.create_future()
        transport = TlsTransport(caller, context, "localhost", None, ready)
        await loop.create_connection(lambda: transport, "127.0.0.1", listener.sockets[0].getsockname()[1])
        async with asyncio.timeout(DEADLINE):
            await ready
            transport.write(b"begun\n")
            await eventually(lambda: b"begun" in log.read_bytes())
            relay.go_at = relay.passed
            assert server.stdin is not None
            server.stdin.write(b"c\n")
            server.stdin.flush()
            await relay.holding.wait()
            # What was let through has to arrive before the write is one in the middle of it.
            await eventually(lambda: transport.write(b".") or caller.events)
            transport.write(b"x" * size)
            transport.write(b"all-of-it\n")
            assert transport.get_write_buffer_size() >= size
            relay.go.set()
            await eventually(lambda: b"all-of-it" in log.read_bytes())
        # The rest of the message may come in pieces, and each is tried.
        assert set(caller.events[:-1]) == {"pause"}
        assert caller.events[-1] == "resume"
        assert log.read_bytes().count(b"x" * size + b"all-of-it\n") == 1
        transport.abort()
        await eventually(lambda: caller.events[-1].startswith("lost"))
        listener.close()
    finally:
        server.kill()
        server.communicate(timeout=DEADLINE)
        await asyncio.gather(*relay.tasks, return_exceptions=True)
