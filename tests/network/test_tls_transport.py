"""TLS transport over real sockets: flow control, the end of connections, messages after the handshake."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import select
import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import Callable
from typing import cast

import pytest

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.network.tls import client_context
from sidekey.network.tls_sessions import RESUMES, IdentityContexts, Sessions
from sidekey.network.tls_transport import TlsTransport
from support.dialling import LoopbackDialer, RecordingProtocol, upstream
from support.leak_check import assert_no_leaks
from support.private_ca import Authority
from support.raw_connection import DEADLINE
from support.tls_peer import ScriptedTlsServer, s_server

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
BIG = hashlib.shake_128(b"a long body").digest(8 << 20)


class Client(RecordingProtocol):
    """Records received bytes and events. It pauses reading after `pause_at` bytes."""

    pause_at = 1 << 40

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()
        self.events: list[str] = []
        self.paused = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        assert self.transport.is_reading(), "nothing is handed over while reading is paused"
        self.received += data
        if len(self.received) >= self.pause_at:
            self.transport.pause_reading()
            self.paused.set()

    def eof_received(self) -> None:
        self.events.append("eof")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    async def ended(self) -> Exception | None:
        """Wait for the end, and return its error."""
        async with asyncio.timeout(DEADLINE):
            error: Exception | None = await self.lost
        return error

    async def closed(self) -> None:
        """Close, and wait for the end."""
        self.transport.close()
        await self.ended()

    async def until_received(self, text: bytes) -> None:
        """Wait for bytes."""
        async with asyncio.timeout(DEADLINE):
            while text not in self.received:
                await asyncio.sleep(0.005)


async def connect(
    dial: LoopbackDialer, port: int, factory: Callable[[], Client] = Client, identity: ClientIdentity | None = None
) -> Client:
    """Connect to up.test."""
    return await dial.connect_as(factory, "https://up.test", port, identity=identity)


def context_of(ca: Authority, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """Build a server's context for one TLS version."""
    context = ca.server_context("up.test")
    context.minimum_version = context.maximum_version = version
    return context


def read_all(tls: ssl.SSLSocket, into: bytearray) -> None:
    """Read up to close_notify. A bare end of TCP raises."""
    tls.suppress_ragged_eofs = False
    while data := tls.recv(1 << 16):
        into += data


@VERSIONS
async def test_long_body_is_sent_completely_before_close_notify(
    dial: LoopbackDialer, ca: Authority, version: ssl.TLSVersion
) -> None:
    """Although the connection closes at once and the peer reads late."""
    taken, go = bytearray(), threading.Event()

    def script(tls: ssl.SSLSocket) -> None:
        go.wait(DEADLINE)
        read_all(tls, taken)

    with ScriptedTlsServer(context_of(ca, version), script) as peer:
        async with assert_no_leaks():
            connection = await connect(dial, peer.port)
            connection.transport.set_write_buffer_limits(64 << 10)
            connection.transport.write(BIG)
            assert connection.events == ["pause"]
            assert connection.transport.get_write_buffer_size() > 1 << 20
            connection.transport.close()
            connection.transport.write(b"too late")
            assert connection.transport.is_closing()
            go.set()
            assert await connection.ended() is None
        await peer.served()
    assert taken == BIG
    assert peer.errors == []


@VERSIONS
async def test_writing_resumes_when_the_peer_reads(
    dial: LoopbackDialer, ca: Authority, version: ssl.TLSVersion
) -> None:
    """Pieces of every size arrive in order."""
    taken, go = bytearray(), threading.Event()

    def script(tls: ssl.SSLSocket) -> None:
        go.wait(DEADLINE)
        read_all(tls, taken)

    sizes = (0, 1, 100, 16 << 10, (16 << 10) + 1, 64 << 10, 300_001)
    sent = b""
    with ScriptedTlsServer(context_of(ca, version), script) as peer:
        connection = await connect(dial, peer.port)
        connection.transport.set_write_buffer_limits(64 << 10)
        while "pause" not in connection.events:
            for size in sizes:
                connection.transport.write(memoryview(BIG)[len(sent) : len(sent) + size])
                sent += BIG[len(sent) : len(sent) + size]
        go.set()
        async with asyncio.timeout(DEADLINE):
            while connection.events[-1] != "resume":
                await asyncio.sleep(0.005)
        connection.transport.close()
        await connection.ended()
        await peer.served()
    assert taken == sent


@VERSIONS
async def test_paused_reader_stops_the_peer(dial: LoopbackDialer, ca: Authority, version: ssl.TLSVersion) -> None:
    """No byte is lost, and the protocol gets the end once, after the last byte."""
    sent = threading.Event()

    def script(tls: ssl.SSLSocket) -> None:
        tls.sendall(BIG)
        tls.sendall(BIG)
        sent.set()
        tls.unwrap()

    class Halting(Client):
        pause_at = 1 << 20

    with ScriptedTlsServer(context_of(ca, version), script) as peer:
        connection = await connect(dial, peer.port, Halting)
        async with asyncio.timeout(DEADLINE):
            await connection.paused.wait()
        assert len(connection.received) < (1 << 20) + (128 << 10)
        assert not sent.is_set()
        connection.pause_at = 1 << 40
        connection.transport.resume_reading()
        assert await connection.ended() is None
        await peer.served()
    assert connection.received == BIG + BIG
    assert connection.events == ["eof"]


async def test_end_is_reported_when_a_paused_protocol_resumes(dial: LoopbackDialer, ca: Authority) -> None:
    class Halting(Client):
        pause_at = 1

    def script(tls: ssl.SSLSocket) -> None:
        # Both records in one segment.
        tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        tls.sendall(b"all of it")
        tls.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        tls.settimeout(DEADLINE)
        tls.unwrap()

    with ScriptedTlsServer(context_of(ca), script) as peer:
        connection = await connect(dial, peer.port, Halting)
        async with asyncio.timeout(DEADLINE):
            await connection.paused.wait()
        assert connection.events == []
        # It is good for nothing new, and says so before anyone sends a further request.
        assert connection.transport.is_closing()
        connection.transport.resume_reading()
        assert connection.events == ["eof"]
        assert await connection.ended() is None
        await peer.served()
    assert (bytes(connection.received), peer.errors) == (b"all of it", [])


@VERSIONS
async def test_abort_is_a_cut_connection(dial: LoopbackDialer, ca: Authority, version: ssl.TLSVersion) -> None:
    """An incomplete request never looks complete to the peer."""
    taken = bytearray()
    with ScriptedTlsServer(context_of(ca, version), lambda tls: read_all(tls, taken)) as peer:
        async with assert_no_leaks():
            connection = await connect(dial, peer.port)
            connection.transport.write(b"half a request")
            connection.transport.abort()
            connection.transport.abort()
            connection.transport.close()
            assert await connection.ended() is None
            connection.transport.write(b"into nothing")
            connection.transport.pause_reading()
            connection.transport.resume_reading()
            assert connection.transport.get_extra_info("ssl_object") is None
        await peer.served()
    assert len(peer.errors) == 1


async def test_forged_bytes_end_the_connection_with_an_alert(dial: LoopbackDialer, ca: Authority) -> None:
    def script(tls: ssl.SSLSocket) -> None:
        tls.sendall(b"good")
        with socket.socket(fileno=tls.detach()) as bare:
            bare.sendall(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
            while bare.recv(4096):
                pass

    with ScriptedTlsServer(context_of(ca), script) as peer:
        connection = await connect(dial, peer.port)
        error = await connection.ended()
        await peer.served()
    assert isinstance(error, ssl.SSLError)
    assert (bytes(connection.received), connection.events) == (b"good", [])


async def test_rejected_upload_ends_without_waiting_for_unsent_bytes(dial: LoopbackDialer, ca: Authority) -> None:
    go = threading.Event()

    def script(tls: ssl.SSLSocket) -> None:
        with socket.socket(fileno=tls.detach()) as bare:
            bare.sendall(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
            go.wait(DEADLINE)

    with ScriptedTlsServer(context_of(ca), script) as peer:
        connection = await connect(dial, peer.port)
        connection.transport.write(BIG)
        assert isinstance(await connection.ended(), ssl.SSLError)
        go.set()
        await peer.served()


async def test_bytes_before_a_reset_are_read(dial: LoopbackDialer, ca: Authority) -> None:
    """When the loop reports the loss after a failed write, the socket still holds them."""

    begun, go = threading.Event(), threading.Event()

    class Uploading(Client):
        def data_received(self, data: bytes) -> None:
            self.received += data

    def script(tls: ssl.SSLSocket) -> None:
        assert tls.recv(100) == b"begin"
        begun.set()
        go.wait(DEADLINE)
        tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls.sendall(b"refused")
        tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with ScriptedTlsServer(context_of(ca), script) as peer:
        connection = await connect(dial, peer.port, Uploading)
        connection.transport.write(b"begin")
        assert await asyncio.to_thread(begun.wait, DEADLINE)
        # The loop stands still until the reset has arrived.
        go.set()
        poll = select.poll()
        poll.register(connection.transport.get_extra_info("socket").fileno(), 0)
        assert poll.poll(DEADLINE * 1000)
        connection.transport.write(b"more")
        assert isinstance(await connection.ended(), ConnectionError)
        await peer.served()
    assert (bytes(connection.received), connection.events) == (b"refused", [])


async def test_key_update_is_answered(dial: LoopbackDialer, ca: Authority) -> None:
    """RFC 8446 4.6.3: both directions continue."""
    with s_server(ca, "-tls1_3", "-msg") as server:
        connection = await connect(dial, server.port)
        server.type("before")
        await connection.until_received(b"before\n")
        server.type("K")
        async with asyncio.timeout(DEADLINE):
            while b"after\n" not in connection.received:
                server.type("after")  # the server drops what it reads together with a command
                await asyncio.sleep(0.05)
        connection.transport.write(b"from the client\n")
        await server.until_shown(b"from the client")
        server.type("Q")
        await server.until_shown(b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
        assert await connection.ended() is None
    # Nothing else was read, and nothing of it twice: the server drops whole lines.
    assert set(bytes(connection.received).splitlines()) == {b"before", b"after"}


class Segments(asyncio.Transport):
    """A TCP transport that records each write."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return False


async def test_request_shares_a_segment_with_finished(ca: Authority) -> None:
    """In TLS 1.3 the client sends the last handshake message."""
    tcp, ready, client = Segments(), asyncio.get_running_loop().create_future(), Client()
    layer = TlsTransport(client, client_context(ca.trust), "up.test", None, ready)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context_of(ca).wrap_bio(to_server, to_client, server_side=True)

    async def request() -> None:
        await ready
        client.transport.write(b"request")

    requesting = asyncio.create_task(request())
    await asyncio.sleep(0)
    layer.connection_made(tcp)
    to_server.write(*tcp.sent)
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    flight = to_client.read()
    layer.get_buffer(-1)[: len(flight)] = flight
    layer.buffer_updated(len(flight))
    await requesting
    await asyncio.sleep(0)
    _, segment = tcp.sent
    to_server.write(segment)
    server.do_handshake()
    assert server.read(100) == b"request"


def certificate(ca: Authority) -> ClientIdentity:
    """Build a client certificate of alice."""
    leaf = ca.ca.issue_cert("alice@clients.test", common_name="alice")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    end = time.time() + 3600
    return ClientIdentity(chain, leaf.private_key_pem.bytes(), "alice", 0.0, end, "alice", "test CA")


@pytest.mark.skipif(not RESUMES, reason="this Python leaks memory for each session that is read")
async def test_only_recent_slots_with_a_client_certificate_resume(dial: LoopbackDialer, ca: Authority) -> None:
    """A slot without one does not count, because it shares its context."""
    dial.dialer._identity_contexts = IdentityContexts(1)
    identity, plain, one, other = certificate(ca), Sessions(), Sessions(), Sessions()
    uses = ((plain, None), (one, identity), (one, identity), (other, identity), (one, identity), (plain, None))
    resumed = []
    with ScriptedTlsServer(context_of(ca), lambda tls: (tls.sendall(b"answer"), tls.unwrap()), len(uses)) as peer:
        for sessions, shown in uses:
            connection = await dial.connect_as(Client, "https://up.test", peer.port, identity=shown, sessions=sessions)
            resumed.append(connection.transport.get_extra_info("ssl_object").session_reused)
            assert await connection.ended() is None
        await peer.served()
    assert peer.errors == []
    assert resumed == [False, False, True, False, False, True]


async def test_certificate_is_presented_after_the_handshake(dial: LoopbackDialer, ca: Authority) -> None:
    """RFC 8446 4.6.2."""
    context = context_of(ca)
    # With the first of these, the second does not ask in the handshake.
    context.post_handshake_auth = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca.bundle)
    seen: list[object] = []

    def script(tls: ssl.SSLSocket) -> None:
        assert tls.recv(100) == b"request"
        seen.append(tls.getpeercert())
        tls.verify_client_post_handshake()
        tls.sendall(b"wait")
        assert tls.recv(100) == b"more"
        seen.append(tls.getpeercert())
        tls.sendall(b"answer")
        tls.unwrap()

    with ScriptedTlsServer(context, script) as peer:
        connection = await connect(dial, peer.port, identity=certificate(ca))
        connection.transport.write(b"request")
        await connection.until_received(b"wait")
        connection.transport.write(b"more")
        assert await connection.ended() is None
        await peer.served()
    assert peer.errors == []
    assert connection.received == b"waitanswer"
    assert not seen[0]
    assert "alice" in str(seen[1])


async def test_connections_leave_no_garbage(dial: LoopbackDialer, ca: Authority) -> None:
    """Closed, failed or abandoned."""
    ends = weakref.WeakSet[Client]()

    def made() -> Client:
        client = Client()
        ends.add(client)
        return client

    async with upstream(ca.server_context("up.test")) as good, upstream(ca.server_context("other.test")) as bad:
        await (await connect(dial, good)).closed()  # what is made once is there now
        gc.collect()
        gc.disable()
        try:
            for number in range(100):
                if number % 2:
                    await dial.failure("https://up.test", bad)
                else:
                    await (await connect(dial, good, made)).closed()
            await asyncio.sleep(0)
            assert len(ends) == 0
        finally:
            gc.enable()


def test_loops_of_two_threads_do_not_share_buffers(ca: Authority) -> None:
    bodies = [bytes([letter]) * (16 << 20) for letter in b"ab"]
    received: dict[int, bytes] = {}

    def fetch(number: int, port: int) -> None:
        async def run() -> None:
            connection = await connect(LoopbackDialer(ca), port)
            await connection.ended()
            received[number] = bytes(connection.received)

        asyncio.run(run())

    def script_of(body: bytes) -> Callable[[ssl.SSLSocket], None]:
        def script(tls: ssl.SSLSocket) -> None:
            tls.sendall(body)
            tls.unwrap()

        return script

    with (
        ScriptedTlsServer(context_of(ca), script_of(bodies[0])) as one,
        ScriptedTlsServer(context_of(ca), script_of(bodies[1])) as two,
    ):
        threads = [threading.Thread(target=fetch, args=(n, peer.port)) for n, peer in enumerate((one, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    assert received == dict(enumerate(bodies))


class Server(asyncio.Protocol):
    """The protocol of a server, which records received pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.transport: asyncio.Transport
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@VERSIONS
async def test_half_closed_server_receives_empty_pieces(ca: Authority, version: ssl.TLSVersion) -> None:
    """The bytes are dropped. The client receives the whole response and close_notify."""
    loop, told = asyncio.get_running_loop(), Server()

    def accept() -> TlsTransport:
        return TlsTransport(told, context_of(ca, version), None, None, loop.create_future())

    server = await loop.create_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    def talk() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as tcp,
            ca.client_context().wrap_socket(tcp, server_hostname="up.test", suppress_ragged_eofs=False) as tls,
        ):
            tls.sendall(b"first")
            heard = bytearray()
            while data := tls.recv(100):
                heard += data
            # Below TLS, which has ended: what was on its way.
            os.write(tls.fileno(), b"more")
            asked.set()
            assert done.wait(DEADLINE)
            return bytes(heard)

    asked, done = threading.Event(), threading.Event()
    async with server, asyncio.timeout(DEADLINE):
        talking = asyncio.create_task(asyncio.to_thread(talk))
        while not told.pieces:
            await asyncio.sleep(0.005)
        transport = told.transport
        assert transport.can_write_eof()
        transport.write(b"last")
        transport.write_eof()
        transport.write(b"never")
        assert not transport.is_closing()
        while b"" not in told.pieces:
            await asyncio.sleep(0.005)
        done.set()
        assert await talking == b"last"
        transport.close()
        while not told.lost:
            await asyncio.sleep(0.005)
    assert told.pieces[0] == b"first"
    assert set(told.pieces[1:]) == {b""}
