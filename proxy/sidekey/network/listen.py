"""Listening sockets, TCP or unix, with errors that name the config key and the remedy.

docs/decisions/0034 describes how a listener stops, and 0075 why a service manager can pass one to several processes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from sidekey.errors import StartError
from sidekey.network.socket_filter import refuse_everything, refuse_new
from sidekey.snapshot.snapshot import Address

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
_AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""An entry of getaddrinfo: family, type, protocol, canonical name, socket address."""

GRACE = 0.1
"""Seconds for TCP handshakes that are under way when a listener stops."""

_LOOP_ITERATIONS = 3
"""Iterations until asyncio has connected accepted sockets to their protocols, which a closed server no longer does."""

_REASONS = {
    errno.EACCES: "may not be used by this user: ports below 1024 and other users' folders need a privilege",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.ENOENT: "is in a folder that does not exist",
    errno.EROFS: "is on a read-only file system",
}


class ListenError(StartError):
    """A listener that cannot be opened. The message is `key: address reason`."""

    def __init__(self, key: str, address: Address, reason: str) -> None:
        super().__init__(f"{key}: {address} {reason}")


class AddressInUse(ListenError):
    """An address that another process or listener uses."""

    def __init__(self, key: str, address: Address) -> None:
        super().__init__(key, address, f"is in use; stop what listens there or give {key} another address")


class Listener:
    """An open listener. `addresses` have the port that the system chose if the config sets port 0.

    `is_inherited`: other processes may accept from the same sockets.
    """

    def __init__(
        self,
        factory: ProtocolFactory,
        servers: list[asyncio.Server],
        sockets: list[socket.socket],
        addresses: tuple[Address, ...],
        *,
        is_inherited: bool = False,
    ) -> None:
        self.addresses = addresses
        self._is_inherited = is_inherited
        self._factory = factory
        self._servers = servers
        self._sockets = sockets
        self._files = [(path, _identity(path)) for address in addresses if (path := address.path) is not None]

    def close(self) -> None:
        """Stop accepting; connections stay open. Remove a unix socket's file unless another process has replaced it."""
        for server in self._servers:
            server.close()
        self._remove_files()

    async def stop(self, grace: float = GRACE) -> None:
        """Accept pending connections, because `close` would reset them, then close.

        The kernel refuses new connections at once. A handshake that has started has `grace` seconds to complete: the
        caller considers itself connected before its last packet arrives, and sends its request with that packet.

        An inherited socket stays open elsewhere, with its pending connections: only this process stops accepting.
        """
        loop = asyncio.get_running_loop()
        if self._is_inherited:
            for sock in self._sockets:
                # asyncio reads listening sockets with a reader. uvloop has none, and connects what it accepts at once.
                loop.remove_reader(sock)
            await self._connect_accepted()
            self.close()
            return
        self._remove_files()
        for sock in self._sockets:
            refuse_new(sock)
        await asyncio.sleep(grace)
        for sock in self._sockets:
            # Otherwise a connection could arrive between the last accept(2) and close(2).
            refuse_everything(sock)
        for connection in [pending for sock in self._sockets for pending in accept_pending(sock)]:
            try:
                await loop.connect_accepted_socket(self._factory, connection)
            except OSError:
                # The caller has already disconnected.
                connection.close()
        await self._connect_accepted()
        self.close()

    async def _connect_accepted(self) -> None:
        for _ in range(_LOOP_ITERATIONS):
            await asyncio.sleep(0)

    def _remove_files(self) -> None:
        for path, identity in self._files:
            with suppress(FileNotFoundError):
                if _identity(path) == identity:
                    Path(path).unlink()


def accept_pending(sock: socket.socket) -> list[socket.socket]:
    """Accept pending connections until there is none, or no file descriptor."""
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = sock.accept()
        except ConnectionAbortedError:
            continue
        except OSError:
            return accepted
        connection.setblocking(False)
        accepted.append(connection)


async def listen(
    factory: ProtocolFactory,
    address: Address,
    key: str,
    backlog: int = 1024,
    inherited: socket.socket | None = None,
) -> Listener:
    """Open the listener that the config key `key` describes. Raises ListenError, or its subclass AddressInUse.

    `inherited` is a listening TCP socket to use instead of a new one. It must have this address.
    """
    loop = asyncio.get_running_loop()
    try:
        if inherited is not None:
            _check_inherited(inherited, address, key)
            server = await loop.create_server(factory, sock=inherited, backlog=backlog)
            return Listener(factory, [server], [inherited], (address,), is_inherited=True)
        if address.path is not None:
            sock = _bind_unix(address, key)
            server = await loop.create_unix_server(factory, sock=sock, backlog=backlog)
            return Listener(factory, [server], [sock], (address,))
        sockets = _bind_tcp(await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM), backlog)
        servers = [await loop.create_server(factory, sock=sock, backlog=backlog) for sock in sockets]
    except socket.gaierror:
        raise ListenError(key, address, "names a host that cannot be resolved; write an IP address") from None
    except OSError as error:
        raise _listen_error(error, key, address) from None
    names = [sock.getsockname() for sock in sockets]
    return Listener(factory, servers, sockets, tuple(Address(host=name[0], port=name[1]) for name in names))


def _check_inherited(sock: socket.socket, address: Address, key: str) -> None:
    """Raise ListenError if a passed socket has another address, or a port that others may bind too.

    The config decides by the address who needs a token.
    """
    actual = Address(*sock.getsockname()[:2])
    if actual != address:
        remedy = (
            f"change {key}" if address.path else f"write ListenStream={address} in the socket unit, or change {key}"
        )
        raise ListenError(key, address, f"is not the address of the passed socket, {actual}: {remedy}")
    if address.host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise ListenError(
            key, address, "accepts IPv4 too at the passed socket: write BindIPv6Only=ipv6-only in the socket unit"
        )
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        raise ListenError(
            key,
            address,
            "can be shared by other processes at the passed socket (SO_REUSEPORT): remove ReusePort= from the socket "
            "unit",
        )


def _bind_tcp(infos: Sequence[_AddressInfo], backlog: int) -> list[socket.socket]:
    """Bind the addresses that this machine has: `localhost` also resolves to ::1 on machines without IPv6."""
    sockets: list[socket.socket] = []
    for family, _, _, _, sockaddr in dict.fromkeys(infos):
        try:
            sockets.append(socket.create_server(sockaddr, family=family, backlog=backlog))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            for sock in sockets:
                sock.close()
            raise
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, "the name has no address of this machine")
    return sockets


def _bind_unix(address: Address, key: str) -> socket.socket:
    """Bind the path and set its mode. Until listen(2), the kernel refuses connections."""
    path = str(address.path)
    if len(os.fsencode(path)) > 107:
        raise ListenError(key, address, "is too long for a unix socket: a path must have at most 107 bytes")
    _remove_stale(path, address, key)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        Path(path).chmod(address.mode)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _remove_stale(path: str, address: Address, key: str) -> None:
    """Remove the socket of a dead process. Raises AddressInUse if it accepts connections."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(key, address, "exists and is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result != errno.ECONNREFUSED:
        raise AddressInUse(key, address)
    Path(path).unlink(missing_ok=True)


def _listen_error(error: OSError, key: str, address: Address) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(key, address)
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return ListenError(key, address, _REASONS.get(error.errno or 0, f"cannot be opened ({name})"))


def _identity(path: str) -> tuple[int, int]:
    status = Path(path).lstat()
    return status.st_dev, status.st_ino
