"""A data plane in the test's process: real sockets for callers and upstreams, without the CLI."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from sidekey.ca.leaf_source import LeafSource
from sidekey.config.build.snapshot import build_matching, build_passthrough
from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, GrantSource, InjectionPoints, Pairs
from sidekey.credentials.certificates.identity import IdentitySource
from sidekey.network.dial import Dialer
from sidekey.network.guard import OwnListener
from sidekey.network.resolve import Lookup, Resolver
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.observe.writer import LineWriter
from sidekey.policy.addresses import AllowPrivate, Network
from sidekey.policy.callers import Caller
from sidekey.policy.targets import Forbidden, Policy, parse_domain, parse_prefix
from sidekey.proxy.data_plane import DataPlane
from sidekey.publish import Publisher
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, Listen, NetworkRules, Preset, Snapshot, Trust
from sidekey.tokens.static import StaticSource
from support.leaves import NoLeaves
from support.private_ca import Authority
from support.raw_connection import DEADLINE, RawConnection, connect
from support.wire import Message

CREDENTIAL = b"Basic c3ZjOnNlY3JldA=="
"""Value of Authorization that the integrations of these tests inject."""

AUTHORIZATION: Pairs = (("Authorization", CREDENTIAL.decode()),)

GRANT = Grant(headers=AUTHORIZATION)

UPSTREAM = "up.test"
"""A name that resolves to 127.0.0.1 here."""

LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"),)
MOZILLA = Trust()
TIMEOUTS = Timeouts()
LIMITS = Limits()
NO_TOKENS: Mapping[str, frozenset[str] | None] = {}


class FixedSource:
    """A grant source with a grant from the start. A test may replace it."""

    def __init__(self, grant: Grant = GRANT) -> None:
        self.grant: Grant | None = grant

    async def obtain(self) -> Grant:
        assert self.grant is not None
        return self.grant

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        return False

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        return None


class RenewedSource(FixedSource):
    """A grant source with a list of grants: the first at once, the next after a rejection.

    `judged` has the reported rejections. Renewals wait for `go` if a test clears it.
    """

    def __init__(self, *grants: Grant, refusing: Callable[[int, bytes | None], bool] | None = None) -> None:
        super().__init__(grants[0])
        self.judged: list[tuple[int, bytes | None]] = []
        self.go = asyncio.Event()
        self.go.set()
        self._next = list(grants[1:])
        self._refusing = refusing or (lambda status, _: status == 401)

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        self.judged.append((status, body))
        return self._refusing(status, body) and (bool(self._next) or grant is not self.grant)

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        await self.go.wait()
        if self.grant is grant and self._next:
            self.grant = self._next.pop(0)
        return None if self.grant is grant else self.grant


def secrets_of(grant: Grant) -> SecretLoader:
    """Build a loader that has read its secrets, for a kind without token calls."""
    loader = SecretLoader(lambda: FixedCredential(grant))
    loader.load()
    return loader


def callers_of(tokens: Mapping[str, frozenset[str] | None]) -> dict[bytes, Caller] | None:
    """Build callers by the digest of their token. None allows everything. Without callers, no token is required."""
    return (
        None
        if not tokens
        else {
            hashlib.sha256(token.encode()).digest(): Caller(f"caller{number}", allowed)
            for number, (token, allowed) in enumerate(tokens.items())
        }
    )


def source_of(integration: Integration) -> GrantSource:
    """Return the default grant source of a plane."""
    return StaticSource(integration.secrets)


def integration(
    name: str,
    *prefixes: str,
    domains: Iterable[str] = (),
    forbidden: Iterable[tuple[str, str]] = (),
    methods: Iterable[str] | None = None,
    headers: Pairs = AUTHORIZATION,
    traits: CredentialTraits | None = None,
    trust: Trust = MOZILLA,
    allow_private: AllowPrivate = (),
) -> Integration:
    """Build an integration. Its base is its first prefix or domain. `forbidden` has pairs of base URL and path."""
    policy = Policy(
        prefixes=tuple(map(parse_prefix, prefixes)),
        domains=tuple(map(parse_domain, domains)),
        forbidden=tuple(Forbidden(parse_prefix(base).origin, path) for base, path in forbidden),
        methods=None if methods is None else frozenset(methods),
    )
    bases = [*policy.prefixes, *(parse_prefix(str(domain)) for domain in policy.domains if not domain.wildcard)]
    return Integration(
        id=name,
        kind="basic",
        policy=policy,
        base=bases[0] if bases else None,
        secrets=secrets_of(Grant(headers=headers)),
        traits=CredentialTraits(InjectionPoints(headers=tuple(name for name, _ in headers)))
        if traits is None
        else traits,
        egress=Egress(trust, allow_private),
    )


def https_integration(
    port: int, ca: Authority, path: str = "/api", key: str = CREDENTIAL.decode(), *, name: str = "h"
) -> Integration:
    """Build an integration for an https upstream on this port, with this value of Authorization."""
    prefix = base_url(port, path, scheme="https")
    return integration(name, prefix, trust=ca.trust, headers=(("Authorization", key),))


class SocketLayer:
    """Sockets or their replacement: how callers reach a plane, and how it connects."""

    ticks = True
    """Deadlines expire in real time, not only in `RunningPlane.advance`."""

    def dialer(self, rules: NetworkRules, resolver: Resolver | None) -> Dialer:
        """Return the plane's dialer."""
        return Dialer(rules, resolver=resolver)

    async def listen(
        self, factory: Callable[[], asyncio.Protocol], port: int
    ) -> tuple[OwnListener, Callable[[], object]]:
        """Serve the plane on this port of loopback (0: a free one). Return the address and a function that stops it."""
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port)
        host, bound = server.sockets[0].getsockname()
        return OwnListener(ip_address(host), bound), server.close

    def connect(self, port: int) -> AbstractAsyncContextManager[RawConnection]:
        """Connect to a port as a caller."""
        return connect(port)


SOCKETS = SocketLayer()


@dataclass(slots=True)
class RunningPlane:
    """A plane on a loopback port. `defects` has its reports. A test that expects a defect clears them."""

    plane: DataPlane
    publisher: Publisher
    dialer: Dialer
    carrier: SocketLayer
    port: int = 0
    defects: list[BaseException] = field(default_factory=list)

    def connect(self) -> AbstractAsyncContextManager[RawConnection]:
        """Connect as a caller."""
        return self.carrier.connect(self.port)

    def advance(self, seconds: float) -> None:
        """Let this time pass for every deadline of the plane."""
        deadlines = self.plane.worker.deadlines
        # The next tick would set its clock back.
        deadlines.stop()
        deadlines.look(deadlines.now + seconds)

    async def send(self, request: bytes) -> Message:
        """Send a request on a connection of its own."""
        async with self.connect() as caller:
            await caller.send(request)
            return await caller.response(to_head=request.startswith(b"HEAD "))

    @property
    def metrics(self) -> Metrics:
        """The counters of the plane."""
        return self.plane.worker.metrics

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self.publisher.snapshot

    async def wait_for_outcomes(self, name: str, **counts: int) -> None:
        """Wait until the integration's requests have these outcomes. Write `2xx` as `c2xx`."""
        expected = {
            outcome.removeprefix("c") if outcome[1:2].isdigit() else outcome: n for outcome, n in counts.items()
        }
        stats = self.plane.worker.metrics.unknown if name == "unknown" else self.plane.worker.metrics.stats(name)
        await eventually(lambda: stats.outcomes == expected)

    async def wait_until_idle(self) -> None:
        """Wait until no exchange is in flight."""
        await eventually(lambda: self.plane.worker.metrics.in_flight == 0)


async def eventually(condition: Callable[[], object]) -> None:
    """Run the loop until a condition on this process is true."""
    async with asyncio.timeout(DEADLINE):
        turns = 0
        while not condition():
            turns += 1
            # Callbacks need only turns of the loop. Sockets and threads need time.
            await asyncio.sleep(0 if turns < 50 else 0.005)


@asynccontextmanager
async def running(
    *integrations: Integration,
    tokens: Mapping[str, frozenset[str] | None] = NO_TOKENS,
    timeouts: Timeouts = TIMEOUTS,
    limits: Limits = LIMITS,
    names: tuple[str, ...] = ("h.test",),
    hosts: Mapping[str, tuple[str, ...]] | None = None,
    allow_private: tuple[Network, ...] = LOOPBACK,
    via: bool = True,
    log: Path | None = None,
    access: str = "all",
    audit: str = "off",
    lookup: Lookup | None = None,
    port: int = 0,
    sources: Mapping[str, GrantSource] | None = None,
    identities: Mapping[str, IdentitySource] | None = None,
    passing: bool = False,
    pass_ports: Iterable[int] = (443, 80),
    matching: bool = False,
    presets: Iterable[Preset] = (),
    leaves: LeafSource | None = None,
    carrier: SocketLayer = SOCKETS,
    wall: Callable[[], float] = time.time,
) -> AsyncIterator[RunningPlane]:
    """Run a plane for these integrations. `tokens` maps callers' tokens to their integrations (None: all).

    `sources` replaces grant sources of integrations. With `passing`, uncovered targets pass without a credential. With
    `matching`, requests need not name an integration. `leaves` has the certificates of tunnels. `wall` returns the time
    that is signed.

    At its end no exchange may be in flight, no connection open, no deadline active, and no defect reported.
    """
    served = {item.id: item for item in integrations}
    snapshot = Snapshot(
        integrations=served,
        callers=callers_of(tokens),
        presets={preset.id: preset for preset in presets},
        listen=Listen(names=names),
        network=NetworkRules(hosts=hosts or {UPSTREAM: ("127.0.0.1",)}, allow_private=allow_private),
        timeouts=timeouts,
        limits=limits,
        via=via,
        passthrough=build_passthrough(served, MOZILLA, pass_ports) if passing else None,
        matching=build_matching(served) if matching else None,
    )
    defects: list[BaseException] = []

    def report(defect: BaseException, request_id: str = "") -> str:
        defects.append(defect)
        return request_id or "defect-1"

    writer = LineWriter(os.open(os.devnull if log is None else log, os.O_WRONLY | os.O_CREAT, 0o600))
    resolver = None if lookup is None else Resolver(snapshot.network, lookup=lookup)
    dialer = carrier.dialer(snapshot.network, resolver)
    grant_sources = sources or {}
    metrics = Metrics()
    metrics.prepare(snapshot)()
    plane = DataPlane(
        snapshot,
        source_of=lambda item: grant_sources.get(item.id) or source_of(item),
        identity_of=lambda item: (identities or {}).get(item.id),
        dialer=dialer,
        metrics=metrics,
        access=AccessLog(writer, access, path=False),
        audit=AuditLog(writer, audit),
        leaves=leaves or NoLeaves(),
        report=report,
        wall=wall,
    )
    if carrier.ticks:
        plane.worker.deadlines.start(asyncio.get_running_loop())
    listener, close = await carrier.listen(plane.connection, port)
    dialer.own_listeners = (listener,)
    try:
        publisher = Publisher(snapshot, (dialer, plane), report)
        yield RunningPlane(plane, publisher, dialer, carrier, listener.port, defects)
        close()
        await plane.close()
        await eventually(lambda: not plane.worker.connections and not plane.worker.deadlines.watched)
        assert (metrics.in_flight, metrics.upstream_open, metrics.upstream_connecting) == (0, 0, 0)
        assert defects == []
    finally:
        close()
        await plane.close()
        writer.close()


def base_url(port: int, path: str = "/api", scheme: str = "http") -> str:
    """Return the endpoint prefix of an upstream."""
    return f"{scheme}://{UPSTREAM}:{port}{path}"


def get(path: str = "/a", *fields: str, name: str = "h", version: str = "1.1") -> bytes:
    """Build a GET through the reverse proxy."""
    return request("GET", path, *fields, name=name, version=version)


def request(
    method: str,
    path: str = "/a",
    *fields: str,
    body: bytes | None = None,
    name: str = "h",
    version: str = "1.1",
) -> bytes:
    """Build a request through the reverse proxy. A body has a Content-Length."""
    length = () if body is None else (f"Content-Length: {len(body)}",)
    lines = [f"{method} /i/{name}{path} HTTP/{version}", "Host: h.test", *fields, *length, "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


def denied(
    *fields: str, method: str = "GET", body: bytes | None = None, name: str = "h", version: str = "1.1"
) -> bytes:
    """Build a request through the forward proxy for a target that no integration of these tests allows."""
    length = () if body is None else (f"Content-Length: {len(body)}",)
    lines = [f"{method} http://denied.test/x HTTP/{version}", "Host: x", f"X-Integration-Id: {name}", *fields, *length]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def forwarded(
    port: int, method: bytes = b"GET", target: bytes = b"/api/a", *fields: bytes, end: bytes = b"", word: bytes
) -> bytes:
    """Build the request that an upstream on `port` receives, byte for byte. `word` is the plane's name in Via."""
    head = [
        b"%b %b HTTP/1.1" % (method, target),
        b"Host: %b:%d" % (UPSTREAM.encode(), port),
        b"Authorization: " + CREDENTIAL,
        *fields,
        b"Via: 1.1 sidekey (%b)" % word,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + end


def status_and_code(response: Message) -> tuple[int, str]:
    """Return status and code of a response. The code of an upstream's response is empty."""
    return response.status, "" if not response.values(b"proxy-status") else problem(response)["code"]


def problem(response: Message) -> dict[str, Any]:
    """Parse a response of Sidekey itself, and check that it has the right form and reveals nothing."""
    assert response.values(b"content-type") == [b"application/problem+json"]
    document: dict[str, Any] = json.loads(response.body)
    assert document["status"] == response.status
    assert {"type", "title", "detail", "code", "sent"} <= document.keys()
    assert response.values(b"sidekey-request-id") == [document.pop("instance").encode()]
    (status,) = response.values(b"proxy-status")
    node, _, error = status.decode().partition("; error=")
    assert node == "sidekey"
    document["error"] = error
    for secret in (CREDENTIAL, b"secret", b"127.0.0.1", UPSTREAM.encode()):
        assert secret not in response.body
    return document
