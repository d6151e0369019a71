"""Listening sockets of every listener: TCP or a unix socket, with errors that name the config key and what to do.

See docs/decisions/0034 for how one ends.
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

Factory = Callable[[], asyncio.BaseProtocol]
_Info = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]
"""What getaddrinfo returns for an address: family, type, protocol, canonical name, socket address."""

GRACE = 0.1
"""Seconds that a handshake has to end which was under way when its listening socket was to be closed."""

_TURNS = 3
"""Turns of the loop until what asyncio has accepted is with its protocol; a server that is closed takes nothing in."""

_REASONS = {
    errno.EACCES: "may not be used by this user: ports below 1024 and other users' folders need a privilege",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.ENOENT: "is in a folder that does not exist",
    errno.EROFS: "is on a read-only file system",
}


class ListenError(StartError):
    """A listener cannot be opened. The message is `key: address reason`."""

    def __init__(self, key: str, address: Address, reason: str) -> None:
        super().__init__(f"{key}: {address} {reason}")


class AddressInUse(ListenError):
    """Another process, or another listener of this one, has the address."""

    def __init__(self, key: str, address: Address) -> None:
        super().__init__(key, address, f"is in use; stop what listens there or give {key} another address")


class Listener:
    """An open listener. `addresses` are those bound, with the port that the system chose where the config says 0."""

    def __init__(
        self,
        factory: Factory,
        servers: list[asyncio.Server],
        sockets: list[socket.socket],
        addresses: tuple[Address, ...],
    ) -> None:
        self.addresses = addresses
        self._factory = factory
        self._servers = servers
        self._sockets = sockets
        self._files = [(path, _identity(path)) for address in addresses if (path := address.path) is not None]

    def close(self) -> None:
        """Stop accepting; connections stay. A unix socket's file goes, unless another process has replaced it."""
        for server in self._servers:
            server.close()
        self._remove_files()

    async def stop(self, grace: float = GRACE) -> None:
        """Stop accepting once everybody has been accepted who has connected: `close` resets who waits for it.

        Nobody can begin to connect any more, and who had begun has `grace` seconds for the rest of the handshake: a
        caller believes that it is connected before the last packet of it is here, and sends its request with that.
        """
        self._remove_files()
        for sock in self._sockets:
            refuse_new(sock)
        await asyncio.sleep(grace)
        for sock in self._sockets:
            # Else one more could come between the last accept(2) and close(2).
            refuse_everything(sock)
        loop = asyncio.get_running_loop()
        for connection in [each for sock in self._sockets for each in accept_waiting(sock)]:
            try:
                await loop.connect_accepted_socket(self._factory, connection)
            except OSError:
                # They have left again.
                connection.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        self.close()

    def _remove_files(self) -> None:
        for path, identity in self._files:
            with suppress(FileNotFoundError):
                if _identity(path) == identity:
                    Path(path).unlink()


def accept_waiting(sock: socket.socket) -> list[socket.socket]:
    """Accept everybody who waits at a listening socket, as far as there are descriptors."""
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


async def listen(factory: Factory, address: Address, key: str, backlog: int = 1024) -> Listener:
    """Open the listener that `key` of the config names. Raises ListenError, or AddressInUse where that is why."""
    loop = asyncio.get_running_loop()
    try:
        if address.path is not None:
            sock = _bind_unix(address, key)
            server = await loop.create_unix_server(factory, sock=sock, backlog=backlog)
            return Listener(factory, [server], [sock], (address,))
        sockets = _bind_tcp(await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM), backlog)
        servers = [await loop.create_server(factory, sock=sock, backlog=backlog) for sock in sockets]
    except socket.gaierror:
        raise ListenError(key, address, "names a host that cannot be resolved; write an IP address") from None
    except OSError as error:
        raise _explain(error, key, address) from None
    names = [sock.getsockname() for sock in sockets]
    return Listener(factory, servers, sockets, tuple(Address(host=name[0], port=name[1]) for name in names))


def _bind_tcp(infos: Sequence[_Info], backlog: int) -> list[socket.socket]:
    """Bind every address of a name that this machine has: `localhost` means ::1 also where there is no IPv6."""
    sockets: list[socket.socket] = []
    for family, _, _, _, where in dict.fromkeys(infos):
        try:
            sockets.append(socket.create_server(where, family=family, backlog=backlog))
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
    """Bind the path. The mode is set before anyone can connect: until listen(2) connections are refused."""
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
    """Remove the socket that a dead process left; one that accepts connections is in use."""
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


def _explain(error: OSError, key: str, address: Address) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(key, address)
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return ListenError(key, address, _REASONS.get(error.errno or 0, f"cannot be opened ({name})"))


def _identity(path: str) -> tuple[int, int]:
    status = Path(path).lstat()
    return status.st_dev, status.st_ino
