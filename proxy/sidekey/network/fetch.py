"""HTTP calls of Sidekey's own, for a token, a login or a certificate, through the one dialer that judges addresses.

A connection may be kept for a later call of the same TLS identity. How many there are at a time is bounded, for each
endpoint and in all: a call waits for its turn. A call is sent once: what fails after that is the
caller's to repeat. Redirects are not followed, cookies not kept, and the environment's proxy variables are ignored.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sidekey.core.addresses import Address, AllowPrivate
from sidekey.core.urls import Origin, Target, parse_target
from sidekey.credentials.base import Call, CallFault, Outcome, Reply
from sidekey.credentials.identity import ClientIdentity
from sidekey.errors import Problem, ProblemError
from sidekey.network.call_slots import CallSlots, NoSlotError
from sidekey.network.dial import Dialer
from sidekey.network.http_connection import ClosedBeforeResponse, HttpConnection, ResponseError
from sidekey.network.tls import certificate_refused
from sidekey.runtime.snapshot import Trust

KEEP_FOR = 30.0
"""Seconds that an idle connection is kept at most; a server that announces less is believed."""

RESERVED = 0.1
"""The part of a call's time that is the response's alone: with less left the request is not sent."""

MOST_KEPT = 64
"""Idle connections of a fetcher: one more closes the one that has been idle longest."""

_OUTCOMES: dict[str, Outcome] = {"dns_timeout": "timeout", "connection_timeout": "timeout"}
"""Which of a Problem's errors are not "unreachable"."""

_LINE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
"""A line without controls other than tab (RFC 9110 5.5)."""


class _Key(NamedTuple):
    """What two calls must have in common to share a connection."""

    origin: Origin
    trust: Trust
    allow_private: AllowPrivate
    source_address: Address | None
    fingerprint: str
    """Of the client certificate; empty where there is none."""
    rules: int
    """The version of the network rules that the address was judged by, and the local one was chosen by."""


class _Idle(NamedTuple):
    """What there is to know of a connection that is kept."""

    key: _Key
    timer: asyncio.TimerHandle
    close: Callable[[], None]


class Fetcher:
    """Makes calls under the network rules of a dialer, and no more at a time than `slots` allow to all who share them.

    `close` it when no call is to come.
    """

    def __init__(self, dialer: Dialer, slots: CallSlots) -> None:
        self._dialer = dialer
        self._slots = slots
        # In the order in which they became idle.
        self._idle: dict[HttpConnection, _Idle] = {}
        self._drops = 0
        self._closed = False

    async def fetch(
        self,
        call: Call,
        *,
        trust: Trust,
        allow_private: AllowPrivate,
        source_address: Address | None,
        timeout: float,  # noqa: ASYNC109 - one budget, which the lookup and the rest share
        largest: int,
        identity: ClientIdentity | None = None,
    ) -> Reply:
        """Make the call: to https, or to http at a loopback address only.

        `timeout` bounds all of it in seconds, `largest` the response's body in bytes.
        `allow_private` and `source_address` are the integration's own, as for `Dialer.connect`. `identity` is the
        client certificate for a server that asks for one.
        Raises CallFault: timeout, unreachable or invalid, in words of ours that name the call's step and no address;
        `unspent` where nothing of the request was sent: so it is as well where too little time is left for a response.
        A response of any status is not an error. A call that has had no turn in time is a timeout.
        """
        target = parse_target(call.url)
        request = _request(call, target)
        fingerprint = "" if identity is None else identity.fingerprint
        key = _Key(target.origin, trust, allow_private, source_address, fingerprint, self._dialer.rules_version)
        deadline = asyncio.get_running_loop().time() + timeout
        send_by = deadline - timeout * RESERVED
        try:
            async with self._slots.turn(key.origin, send_by):
                return await self._call(
                    call, request, key, identity, send_by=send_by, deadline=deadline, largest=largest
                )
        except NoSlotError as error:
            raise CallFault("timeout", f"{call.step} skipped: {error.reason}", unspent=True) from None
        except TimeoutError:
            raise CallFault("timeout", f"{call.step} did not respond in time") from None
        except ResponseError as error:
            raise CallFault(error.outcome, f"{call.step} {error.reason}") from None
        except ProblemError as raised:
            raise _of_step(call.step, raised.problem) from None

    async def _call(
        self,
        call: Call,
        request: bytes,
        key: _Key,
        identity: ClientIdentity | None,
        *,
        send_by: float,
        deadline: float,
        largest: int,
    ) -> Reply:
        """Send the request once: on a kept connection, if one is left and may be used, else on a new one."""
        clock = asyncio.get_running_loop().time
        drops = self._drops
        connection = None if call.own_connection else self._take(key)
        fresh = connection is None
        if connection is None:
            self._slots.make_room()
            try:
                connection = await self._dialer.connect(
                    HttpConnection,
                    key.origin,
                    # Whatever `localhost` resolves to, the secret must not leave this machine in the clear.
                    loopback_only=key.origin.scheme != "https",
                    trust=key.trust,
                    allow_private=key.allow_private,
                    source_address=key.source_address,
                    timeout=send_by - clock(),
                    identity=identity,
                )
            except ProblemError as raised:
                raise _of_step(call.step, raised.problem, unspent=True) from None
        if clock() > send_by:
            # The process was stopped meanwhile. Nobody might be there for the response, which may spend a token.
            connection.abort()
            raise CallFault("timeout", f"{call.step}: the connection to it took too long", unspent=True)
        try:
            reply = await connection.call(request, largest, deadline)
        except BaseException as error:
            connection.abort()
            if fresh and identity is not None and isinstance(error, ClosedBeforeResponse):
                raise ProblemError(certificate_refused()) from None
            raise
        if connection.keep_for and not (call.own_connection or self._closed) and drops == self._drops:
            self._keep(key, connection)
        else:
            connection.close()
        return reply

    def drop(self) -> None:
        """Keep no connection that there is now: what is idle closes at once, what is in use after its call."""
        self._drops += 1
        for connection in list(self._idle):
            self._expire(connection)

    def close(self) -> None:
        """Keep no connection any more."""
        self._closed = True
        self.drop()

    def _take(self, key: _Key) -> HttpConnection | None:
        """The connection with this key that became idle last and is still good; those that are not are closed."""
        for connection in [each for each, idle in reversed(self._idle.items()) if idle.key == key]:
            self._remove(connection)
            if connection.is_quiet():
                return connection
            connection.abort()
        return None

    def _keep(self, key: _Key, connection: HttpConnection) -> None:
        if len(self._idle) >= MOST_KEPT:
            self._expire(next(iter(self._idle)))
        close = partial(self._expire, connection)
        timer = asyncio.get_running_loop().call_later(min(KEEP_FOR, connection.keep_for), close)
        self._idle[connection] = _Idle(key, timer, close)
        self._slots.keep(close)

    def _expire(self, connection: HttpConnection) -> None:
        self._remove(connection)
        connection.close()

    def _remove(self, connection: HttpConnection) -> None:
        idle = self._idle.pop(connection)
        idle.timer.cancel()
        self._slots.forget(idle.close)


def _request(call: Call, target: Target) -> bytes:
    """The request as it is sent. Raises ValueError where a field would break out of its line: a defect of a kind."""
    given = {name.lower() for name, _ in call.headers}
    ours = (("Accept-Encoding", "identity"), ("User-Agent", "sidekey"))
    fields = [("Host", target.origin.authority), *call.headers]
    fields += [pair for pair in ours if pair[0].lower() not in given]
    if call.body or call.method != "GET":
        fields.append(("Content-Length", str(len(call.body))))
    if call.own_connection:
        fields.append(("Connection", "close"))
    lines = [f"{call.method} {target.request_target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    if any(not _LINE.fullmatch(line) for line in lines):
        raise ValueError("a call for a credential must not hold control characters in its head")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + call.body


def _of_step(step: str, problem: Problem, *, unspent: bool = False) -> CallFault:
    """A problem of an upstream, said of the step: "token endpoint: its certificate is refused: ..."."""
    detail = problem.detail
    for peer in ("the upstream", "the target"):
        detail = detail.replace(f"{peer}'s", "its").replace(peer, "it")
    return CallFault(
        _OUTCOMES.get(problem.error, "unreachable"),
        f"{step}: {detail}",
        settings=problem.code == "destination_denied" or problem.error == "proxy_configuration_error",
        unspent=unspent,
    )
