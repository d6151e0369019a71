"""network/listen.py: listeners open safely, and an error names the config key and the way out."""

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


async def test_port_0_is_told_as_the_port_that_was_bound() -> None:
    """Tests and demos listen on any free port."""
    listener = await listen(factory, Address(), KEY)
    (address,) = listener.addresses
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.close()
    await writer.wait_closed()
    listener.close()
    assert address.port > 0


async def test_a_port_in_use_names_the_key_and_the_way_out() -> None:
    """The message is all an operator sees."""
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
async def test_an_address_that_cannot_be_listened_at_is_explained(address: Address, reason: str) -> None:
    """In words, with the key and the address as written."""
    with pytest.raises(ListenError) as raised:
        await listen(factory, address, KEY)
    assert str(raised.value) == f"{KEY}: {address} {reason}"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_unix_socket_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    """0600 unless the config says otherwise."""
    path = tmp_path / "sock"
    listener = await listen(factory, Address(path=str(path), mode=mode), KEY)
    _, writer = await asyncio.open_unix_connection(str(path))
    writer.close()
    await writer.wait_closed()
    found = path.stat().st_mode & 0o777
    listener.close()
    assert found == mode
    assert not path.exists()


async def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """A process that was killed leaves its file behind."""
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


async def test_the_socket_of_a_living_process_is_in_use(tmp_path: Path) -> None:
    """Also of one that is too busy to accept."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen(0)
        with pytest.raises(AddressInUse, match="is in use"):
            await listen(factory, Address(path=str(path)), KEY)
    assert path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A path given by mistake costs no data."""
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(ListenError, match="exists and is not a socket"):
        await listen(factory, Address(path=str(path)), KEY)
    assert path.read_text() == "precious"


async def test_a_socket_that_another_process_put_there_is_not_removed(tmp_path: Path) -> None:
    """At a rolling restart the new process may own the path before the old one ends."""
    path = tmp_path / "sock"
    first = await listen(factory, Address(path=str(path)), KEY)
    path.unlink()
    second = await listen(factory, Address(path=str(path)), KEY)
    first.close()
    assert path.exists()
    second.close()


async def test_a_name_is_listened_at_by_each_of_its_addresses() -> None:
    """`localhost` is 127.0.0.1, and ::1 where the machine has it."""
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
    """A connection that was accepted, and what came on it."""

    def __init__(self, known: list[Received]) -> None:
        self.data = b""
        known.append(self)

    def data_received(self, data: bytes) -> None:
        self.data += data


def loop_of(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a loop of this name."""
    made = pytest.importorskip("uvloop").new_event_loop if name == "uvloop" else asyncio.new_event_loop
    return cast(Callable[[], asyncio.AbstractEventLoop], made)


def connected(address: Address) -> socket.socket:
    """A connection that the kernel has made and nobody has accepted."""
    if address.path is None:
        return socket.create_connection((address.host, address.port))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(address.path)
    return sock


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_who_has_connected_is_accepted_before_the_end(kind: str, loop: str, tmp_path: Path) -> None:
    """Closing the socket would reset those connections, and the bytes on them; nobody else gets in meanwhile."""
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
        while sum(len(each.data) > 0 for each in known) < len(callers):
            await asyncio.sleep(0)
        assert sorted(int(each.data) for each in known) == list(range(20))
        for caller in callers:
            caller.close()
        await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop_of(loop)) as runner:
        runner.run(scenario())


linux = pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")


def half_connected(address: tuple[str, int]) -> socket.socket:
    """A caller that has not received the answer to its SYN; the kernel sends that again after a second."""
    caller = socket.socket()
    refuse_everything(caller)
    caller.setblocking(False)
    assert caller.connect_ex(address) == errno.EINPROGRESS
    remove_filter(caller)
    return caller


@linux
async def test_a_handshake_that_is_under_way_may_end() -> None:
    """Its caller believes that it is connected before we know, and sends its request at once."""
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
