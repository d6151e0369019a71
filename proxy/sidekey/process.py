"""What the process asks of the system: no dumps of its memory, enough descriptors, the fastest event loop there is."""

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

_PR_SET_DUMPABLE = 4
ADMIN_CONNECTIONS: Final = 256
"""Connections of the admin listener, unless there are few descriptors."""
LOGIN_CALLS: Final = 32
"""Calls to the issuer of log-ins at a time, half of them to one host."""
_DESCRIPTORS_ASIDE = 160 + LOGIN_CALLS
"""Descriptors that are neither for connections of the data plane nor for calls nor for the admin listener: metrics,
logs, config files, lookups, calls of log-ins, and one for each of 64 requests that people send."""
_BACKLOG = 1024
_CALLS = 256
_SWITCH = 0.0005
"""Seconds after which a thread that computes yields the interpreter to the event loop.

Python's default is 5 ms, for which each step of a request then waits. With it, a thread that renders the metrics of
1,000 integrations every 5 s raised p99.9 of other requests from 1.7 to 5.4 ms; with 0.5 ms, from 1.2 to 1.6.
"""


def protect_memory() -> None:
    """Keep secrets out of core dumps, and other processes of this user out of our memory (prctl(2), ptrace(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


class _Collector:
    """The cyclic garbage collector of this process. It is off while any block pauses it, since blocks overlap."""

    def __init__(self) -> None:
        self._blocks = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Switch the collector off in the block. Call it on the event loop."""
        self._blocks += 1
        gc.disable()
        try:
            yield
        finally:
            self._blocks -= 1
            if not self._blocks:
                gc.enable()


COLLECTOR: Final = _Collector()


def share_interpreter() -> None:
    """Let the event loop run soon while a thread computes: a load of the config, a scrape, or the API."""
    sys.setswitchinterval(_SWITCH)


def notify(*states: str) -> None:
    """Send states to the service manager if it asks for them by NOTIFY_SOCKET (sd_notify(3)).

    Raises OSError if the service manager cannot be reached.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    # A leading @ stands for the NUL of an abstract socket's name.
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        # A full queue is an error: waiting for the service manager would stop the event loop.
        sender.setblocking(False)
        sender.sendto("\n".join(states).encode(), address)


def raise_descriptors() -> None:
    """Raise NOFILE to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptor_limit() -> int:
    """How many descriptors this process may have: NOFILE as it is in force."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class DescriptorBudget(NamedTuple):
    """What NOFILE suffices for: so many exchanges `in_flight`, and `descriptors` for connections on either side."""

    in_flight: int
    descriptors: int


def afford(in_flight: int) -> DescriptorBudget:
    """What NOFILE suffices for of `in_flight` exchanges, at least one.

    An exchange takes two descriptors, one towards the caller and one towards the upstream.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return DescriptorBudget(in_flight, sys.maxsize)
    # The loop accepts all that waits before a connection can be counted.
    aside = min(_DESCRIPTORS_ASIDE + side_connections(ADMIN_CONNECTIONS), soft // 2)
    descriptors = max(2, soft - aside - calls() - 2 * backlog())
    return DescriptorBudget(min(in_flight, descriptors // 2), descriptors)


def backlog() -> int:
    """How many connections may wait to be accepted: few where accepting them could take all descriptors at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _BACKLOG if soft == resource.RLIM_INFINITY else max(1, min(_BACKLOG, soft // 16))


def calls() -> int:
    """How many connections there may be for tokens, logins and certificates."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CALLS if soft == resource.RLIM_INFINITY else max(2, min(_CALLS, soft // 16))


def side_connections(most: int) -> int:
    """How many of `most` connections each listener beside the data plane's may have: fewer with few descriptors."""
    return min(most, max(2, backlog()))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop of uvloop where it is installed, else that of asyncio: both carry the same protocols."""
    _occupy_standard_descriptors()
    try:
        # Not installed on every platform, and no command but those that serve needs it.
        import uvloop  # noqa: PLC0415 - as the line above says
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _occupy_standard_descriptors() -> None:
    """Open what was closed of descriptors 0 to 2: libuv aborts when it closes a connection that got such a number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def leave(status: int) -> None:
    """End the process at once: no exit handler runs, and no thread is waited for."""
    os._exit(status)
