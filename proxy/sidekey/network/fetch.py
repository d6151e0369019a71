"""One HTTP call of Sidekey's own, for a token, a login or a certificate: by aiohttp, to addresses that were judged.

aiohttp is given the judged addresses and no others, and each is looked at again where its socket is made. Every call
has a session of its own: they are rare, and so nothing of one identity can reach another. Redirects are not followed,
cookies not kept, and the environment's proxy variables play no part.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from sidekey.core.addresses import Address, Network
from sidekey.core.urls import Origin, parse_target
from sidekey.credentials.base import Call, CallFault, Outcome, Reply
from sidekey.credentials.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.happy_eyeballs import connect_problem
from sidekey.network.tls import certificate_refused, tls_problem
from sidekey.settings.snapshot import Trust

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` describes an address: family, type, protocol, canonical name, socket address."""

_OWN_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add by itself."""

_LARGEST_LINE = 64 << 10
"""Bytes of the status line and of each header field: platforms send policies and cookies beyond aiohttp's 8 KiB."""

_OUTCOMES: dict[str, Outcome] = {"dns_timeout": "timeout", "connection_timeout": "timeout"}
"""What of a Problem's errors is no "unreachable"."""


class Fetcher:
    """Makes calls under the network rules of a dialer."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def fetch(
        self,
        call: Call,
        *,
        trust: Trust,
        allow_private: tuple[Network, ...],
        timeout: float,  # noqa: ASYNC109 - one budget, which the lookup and the rest share
        largest: int,
        identity: ClientIdentity | None = None,
    ) -> Reply:
        """Make the call, to https only. `timeout` bounds all of it in seconds, `largest` the answer's body in bytes.

        `identity` is the client certificate for a server that asks for one.
        Raises CallFault: timeout, unreachable or invalid, in words of ours that name the call's step and no address.
        An answer of any status is no fault.
        """
        target = parse_target(call.url)
        if target.origin.scheme != "https":
            raise ValueError("a call for a credential goes to https only")
        with _told_of(call.step, identified=identity is not None):
            deadline = asyncio.get_running_loop().time() + timeout
            judged, context = await self._dialer.find(target.origin, trust, allow_private, deadline, identity)
            async with asyncio.timeout_at(deadline), _session(target.origin, tuple(judged)) as session:
                url = URL(f"{target.origin}{target.request_target}", encoded=True)
                # There is a context wherever it is https; True stands for aiohttp's own, which verifies as well.
                return await _exchange(session, call, url, context or True, largest)


def _session(origin: Origin, judged: tuple[Address, ...]) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=_Judged(judged),
        socket_factory=judged_sockets(judged, origin.port),
        use_dns_cache=False,
        force_close=True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=_OWN_HEADERS,
        max_line_size=_LARGEST_LINE,
        max_field_size=_LARGEST_LINE,
        # The deadline stands around everything.
        timeout=aiohttp.ClientTimeout(),
    )


class _Judged(AbstractResolver):
    """Knows the judged addresses of one host, and no other."""

    def __init__(self, judged: tuple[Address, ...]) -> None:
        self._judged = judged

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every judged address; aiohttp alternates their families."""
        del family
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in self._judged
        ]

    async def close(self) -> None:
        """Nothing is held."""


def judged_sockets(judged: Collection[Address], port: int) -> Callable[[AddressInfo], socket.socket]:
    """Make sockets for these addresses and this port only: address literals go past every resolver."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        if ip_address(where[0]) not in judged or where[1] != port:
            raise ProblemError(Problem("destination_denied", "the target's address was not judged"))
        return socket.socket(family, kind, protocol)

    return make


async def _exchange(
    session: aiohttp.ClientSession, call: Call, url: URL, context: ssl.SSLContext | bool, largest: int
) -> Reply:
    async with session.request(
        call.method,
        url,
        headers=_headers(call),
        data=call.body or None,
        allow_redirects=False,
        ssl=context,
    ) as response:
        # A field that is repeated is one list (RFC 9110 5.3).
        headers: dict[str, str] = {}
        for name, value in response.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise CallFault("invalid", f"{call.step} answered in a coding that was not asked for")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > largest:
                raise CallFault("invalid", f"{call.step} answered more than {largest >> 10} KiB")
        return Reply(response.status, headers, bytes(body))


def _headers(call: Call) -> list[tuple[str, str]]:
    given = {name.lower() for name, _ in call.headers}
    ours = (("Accept-Encoding", "identity"), ("User-Agent", "sidekey"))
    return [*call.headers, *(pair for pair in ours if pair[0].lower() not in given)]


@contextmanager
def _told_of(step: str, *, identified: bool) -> Iterator[None]:
    """Tell every failure in words of ours that begin with the step; the libraries' hold names and addresses.

    `identified`: there is a client certificate, which the server may refuse.
    """
    try:
        yield
    except TimeoutError:
        raise CallFault("timeout", f"{step} did not answer in time") from None
    except ProblemError as raised:
        raise _retold(step, raised.problem) from None
    except aiohttp.ClientConnectorCertificateError as fault:
        raise _retold(step, _connecting(fault.certificate_error)) from None
    except aiohttp.ClientConnectorError as fault:
        raise _retold(step, _connecting(fault.os_error)) from None
    except aiohttp.ClientOSError as fault:
        # Under TLS 1.3 a server refuses a client certificate after the handshake; its alert is the cause then.
        if isinstance(fault.__cause__, ssl.SSLError):
            raise _retold(step, tls_problem(fault.__cause__)) from None
        raise _unanswered(step, identified=identified) from None
    except aiohttp.ClientPayloadError:
        raise CallFault("invalid", f"{step} closed the connection in the middle of its answer") from None
    except aiohttp.ClientResponseError:
        raise CallFault("invalid", f"{step} answered what is not HTTP") from None
    except aiohttp.ClientConnectionError:
        raise _unanswered(step, identified=identified) from None


def _unanswered(step: str, *, identified: bool) -> CallFault:
    if identified:
        return _retold(step, certificate_refused())
    return CallFault("unreachable", f"{step} closed the connection before it answered")


def _connecting(fault: Exception) -> Problem:
    """What the dialer would say of a failure to connect. A peer that leaves in the handshake resets or ends it."""
    if isinstance(fault, (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return tls_problem(fault)
    return connect_problem([fault] if isinstance(fault, OSError) else [])


def _retold(step: str, problem: Problem) -> CallFault:
    """The words of `network` for an upstream, told of the step: "token endpoint: its certificate is refused: ..."."""
    detail = problem.detail
    for peer in ("the upstream", "the target"):
        detail = detail.replace(f"{peer}'s", "its").replace(peer, "it")
    return CallFault(
        _OUTCOMES.get(problem.error, "unreachable"),
        f"{step}: {detail}",
        settings=problem.code == "destination_denied" or problem.error == "proxy_configuration_error",
    )
