"""Settings of the operating-system process: protected memory, file descriptors, event loop and exit."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from sidekey.errors import StartError

_PR_SET_DUMPABLE = 4
ADMIN_CONNECTIONS: Final = 256
"""Maximum connections of the admin listener. Few descriptors lower it."""
LOGIN_CALLS: Final = 32
"""Maximum parallel calls to the OpenID provider, half of them to one host."""
_RESERVED_DESCRIPTORS = 160 + LOGIN_CALLS
"""Descriptors for metrics, logs, config files, lookups, login calls, and 64 requests that operators send."""
_BACKLOG = 1024
_FIRST_PASSED_DESCRIPTOR = 3
_ONE_SOCKET = "pass one for listen.proxy, from a socket unit with one ListenStream=ADDRESS:PORT and without Accept="
_MAX_CALLS = 256
_SWITCH_INTERVAL = 0.0005
"""Seconds after which a busy thread yields the interpreter to the event loop.

With Python's default of 5 ms, rendering the metrics of 1,000 integrations every 5 s raised the p99.9 latency of
requests from 1.7 to 5.4 ms; with 0.5 ms, from 1.2 to 1.6.
"""


def protect_memory() -> None:
    """Disable core dumps, and keep the user's other processes from reading this memory (prctl(2), ptrace(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


class _Collector:
    """Pauses the cyclic garbage collector. It stays off until the last of overlapping blocks ends."""

    def __init__(self) -> None:
        self._blocks = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Disable the collector in the block. Call it on the event loop."""
        self._blocks += 1
        gc.disable()
        try:
            yield
        finally:
            self._blocks -= 1
            if not self._blocks:
                gc.enable()


GARBAGE_COLLECTOR: Final = _Collector()


def shorten_switch_interval() -> None:
    """Let the event loop interrupt busy threads early, such as a config load, a scrape or the API."""
    sys.setswitchinterval(_SWITCH_INTERVAL)


def notify(*states: str) -> None:
    """Send states to the service manager if NOTIFY_SOCKET is set (sd_notify(3)).

    Raises OSError if the service manager cannot be reached.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    # A leading @ stands for the NUL that begins the name of an abstract socket.
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # A full queue is an error: waiting for the service manager would stop the event loop.
        sender.setblocking(False)
        sender.sendto("\n".join(states).encode(), address)


def inherited_socket() -> socket.socket | None:
    """Return the listening TCP socket that the service manager passed, or None (sd_listen_fds(3)). Call it once.

    Removes the protocol's variables from the environment. Raises StartError.
    """
    pid, count, _ = (os.environ.pop(f"LISTEN_{name}", "") for name in ("PID", "FDS", "FDNAMES"))
    if not pid:
        return None
    if pid != str(os.getpid()):
        raise StartError(
            "LISTEN_PID names another process: if a script starts Sidekey, use `exec sidekey run`, or unset LISTEN_PID "
            "if no socket is meant for Sidekey"
        )
    if count != "1":
        raise StartError(f"the service manager passed {count or 'no'} sockets: {_ONE_SOCKET}")
    try:
        os.set_inheritable(_FIRST_PASSED_DESCRIPTOR, False)
        sock = socket.socket(fileno=_FIRST_PASSED_DESCRIPTOR)
    except OSError:
        raise StartError(f"the service manager passed a descriptor that is not a socket: {_ONE_SOCKET}") from None
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not is_tcp or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise StartError(f"the service manager passed a socket that does not listen for TCP: {_ONE_SOCKET}")
    sock.setblocking(False)
    return sock


def raise_descriptor_limit() -> None:
    """Raise NOFILE to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """Return the soft limit of NOFILE."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class DescriptorBudget(NamedTuple):
    """Exchanges and descriptors that the data plane may use under NOFILE."""

    in_flight: int
    descriptors: int


def descriptor_budget(in_flight: int) -> DescriptorBudget:
    """Lower `in_flight` to the exchanges that NOFILE allows, at least one.

    An exchange takes two descriptors, one to the caller and one to the upstream.
    """
    soft = descriptor_limit()
    if soft == resource.RLIM_INFINITY:
        return DescriptorBudget(in_flight, sys.maxsize)
    reserved = min(_RESERVED_DESCRIPTORS + lower_connections(ADMIN_CONNECTIONS), soft // 2)
    # The event loop accepts the whole backlog before Sidekey can count a connection.
    descriptors = max(2, soft - reserved - max_calls() - 2 * backlog())
    return DescriptorBudget(min(in_flight, descriptors // 2), descriptors)


def backlog() -> int:
    """Return the listen backlog. Few descriptors lower it, because the event loop accepts all of it at once."""
    soft = descriptor_limit()
    return _BACKLOG if soft == resource.RLIM_INFINITY else max(1, min(_BACKLOG, soft // 16))


def max_calls() -> int:
    """Return the maximum number of connections that fetch tokens and certificates."""
    soft = descriptor_limit()
    return _MAX_CALLS if soft == resource.RLIM_INFINITY else max(2, min(_MAX_CALLS, soft // 16))


def lower_connections(maximum: int) -> int:
    """Lower the maximum connections of an admin or metrics listener if there are few descriptors."""
    return min(maximum, max(2, backlog()))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Create a uvloop event loop, or one of asyncio if uvloop is not installed."""
    _occupy_standard_descriptors()
    try:
        # uvloop does not exist on every platform, and only some commands need an event loop.
        import uvloop  # noqa: PLC0415 - see above
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _occupy_standard_descriptors() -> None:
    """Open /dev/null for closed descriptors 0 to 2: libuv aborts when it closes a connection with such a number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def exit_now(status: int) -> None:
    """End the process at once, without exit handlers and without waiting for threads."""
    os._exit(status)
