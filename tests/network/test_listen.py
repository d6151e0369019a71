"""Listeners: safe opening and stopping, and errors with config key and remedy."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from sidekey.network.listen import AddressInUse, ListenError, listen
from sidekey.network.socket_filter import refuse_everything, remove_filter
from sidekey.snapshot.snapshot import Address
from support.raw_connection import DEADLINE

KEY = "listen.proxy"


def factory() -> asyncio.Protocol:
    return asyncio.Protocol()


async def test_port_0_is_reported_as_the_bound_port() -> None:
    listener = await listen(factory, Address(), KEY)
    (address,) = listener.addresses
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.close()
    await writer.wait_closed()
    listener.close()
    assert address.port > 0


async def test_port_in_use_names_the_key_and_the_remedy() -> None:
    listener = await listen(factory, Address(), KEY)
    address = listener.addresses[0]
    with pytest.raises(AddressInUse) as raised:
        await listen(factory, address, "listen.admin")
    listener.close()
    assert str(raised.value) == (
        f"listen.admin: {address} is in use; stop what listens there or give listen.admin another address"
    )


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (Address("192.0.2.1", 8080), "is not an address of this machine"),
        (Address("no-such-host.invalid", 8080), "names a host that cannot be resolved; write an IP address"),
        (Address(path="/no/such/folder/sock"), "is in a folder that does not exist"),
        (Address(path="/tmp/" + "x" * 110), "is too long for a unix socket: a path must have at most 107 bytes"),
    ],
)
async def test_address_that_cannot_be_opened_is_explained(address: Address, reason: str) -> None:
    """With the key and the address as written."""
    with pytest.raises(ListenError) as raised:
        await listen(factory, address, KEY)
    assert str(raised.value) == f"{KEY}: {address} {reason}"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_unix_socket_has_its_mode_with_any_umask(tmp_path: Path, mode: int) -> None:
    """0600 by default."""
    path = tmp_path / "sock"
    listener = await listen(factory, Address(path=str(path), mode=mode), KEY)
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.close()
    await writer.wait_closed()
    result = path.stat().st_mode & 0o777
    listener.close()
    assert result == mode
    assert not path.exists()


async def test_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    listener = await listen(factory, Address(path=str(path)), KEY)
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.close()
    await writer.wait_closed()
    listener.close()
    assert not path.exists()


async def test_socket_of_a_running_process_is_in_use(tmp_path: Path) -> None:
    """Also if it is too busy to accept."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen(0)
        with pytest.raises(AddressInUse, match="is in use"):
            await listen(factory, Address(path=str(path)), KEY)
    assert path.exists()


async def test_file_that_is_not_a_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(ListenError, match="exists and is not a socket"):
        await listen(factory, Address(path=str(path)), KEY)
    assert path.read_text() == "precious"


async def test_socket_of_another_process_is_not_removed(tmp_path: Path) -> None:
    """At a rolling restart the new process may own the path before the old one ends."""
    path = tmp_path / "sock"
    first = await listen(factory, Address(path=str(path)), KEY)
    path.unlink()
    second = await listen(factory, Address(path=str(path)), KEY)
    first.close()
    assert path.exists()
    second.close()


async def test_each_address_of_a_name_is_opened() -> None:
    """`localhost` is 127.0.0.1, and ::1 if the machine has it."""
    listener = await listen(factory, Address("localhost", 0), KEY)
    hosts = {address.host for address in listener.addresses}
    for address in listener.addresses:
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.close()
        await writer.wait_closed()
    listener.close()
    assert "127.0.0.1" in hosts
    assert hosts <= {"127.0.0.1", "::1"}


class Received(asyncio.Protocol):
    """An accepted connection and its bytes."""

    def __init__(self, known: list[Received]) -> None:
        self.data = b""
        known.append(self)

    def data_received(self, data: bytes) -> None:
        self.data += data


def loop_of(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of a loop by its name."""
    factory = pytest.importorskip("uvloop").new_event_loop if name == "uvloop" else asyncio.new_event_loop
    return cast(Callable[[], asyncio.AbstractEventLoop], factory)


def connected(address: Address) -> socket.socket:
    """Open a connection that the kernel has completed and the process has not accepted."""
    if address.path is None:
        return socket.create_connection((address.host, address.port))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(address.path)
    return sock


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_pending_connections_are_accepted_before_the_stop(kind: str, loop: str, tmp_path: Path) -> None:
    """Closing the socket would reset them. New ones are refused meanwhile."""
    where = Address() if kind == "tcp" else Address(path=str(tmp_path / "sock"))

    async def scenario() -> None:
        known: list[Received] = []
        listener = await listen(lambda: Received(known), where, KEY)
        callers = [connected(listener.addresses[0]) for _ in range(20)]
        for number, caller in enumerate(callers):
            caller.sendall(b"%d" % number)
        await listener.stop()
        if kind == "tcp":
            with pytest.raises(ConnectionRefusedError):
                connected(listener.addresses[0])
        assert not (tmp_path / "sock").exists()
        while sum(len(item.data) > 0 for item in known) < len(callers):
            await asyncio.sleep(0)
        assert sorted(int(item.data) for item in known) == list(range(20))
        for caller in callers:
            caller.close()
        await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop_of(loop)) as runner:
        runner.run(scenario())


linux = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")


def half_connected(address: tuple[str, int]) -> socket.socket:
    """Open a connection whose SYN is unanswered. The kernel repeats its reply after a second."""
    caller = socket.socket()
    refuse_everything(caller)
    caller.setblocking(False)
    assert caller.connect_ex(address) == errno.EINPROGRESS
    remove_filter(caller)
    return caller


@linux
async def test_pending_handshake_completes_before_the_stop() -> None:
    """Its caller considers itself connected early, and sends its request at once."""
    known: list[Received] = []
    listener = await listen(lambda: Received(known), Address(), KEY)
    where = listener.addresses[0]
    with half_connected((where.host, where.port)) as caller:
        stopping = asyncio.create_task(listener.stop(grace=DEADLINE))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            await loop.sock_connect(caller, (where.host, where.port))
            await loop.sock_sendall(caller, b"request")
            while not (known and known[0].data):
                await asyncio.sleep(0.01)
        assert known[0].data == b"request"
        stopping.cancel()
        listener.close()
