"""Cost of an exchange without sockets: parse, admit, inject, forward, parse, respond, count (`make bench-core`)."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar, cast

from sidekey.certificates.leaves import Leaves
from sidekey.credentials.base import CredentialTraits, FixedCredential, Grant, InjectionPoints
from sidekey.credentials.signing import SigningRules
from sidekey.network.dial import Dialer
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.observe.writer import LineWriter
from sidekey.policy.callers import Caller
from sidekey.policy.targets import Domain, Forbidden, Policy, parse_prefix
from sidekey.proxy.data_plane import DataPlane
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.snapshot.secret_loader import SecretLoader
from sidekey.snapshot.snapshot import Integration, NetworkRules, Preset, Snapshot

C = TypeVar("C")

ROUNDS = 240
EXCHANGES = 500

BODY = b"x" * 1024
REQUEST = (
    b"POST /i/bench/v1/hook HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + BODY
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 200\r\nConnection: keep-alive\r\n\r\n" + b"y" * 200
)


class Wire:
    """A transport that keeps the last write."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        """Keep the bytes."""
        self.written = data

    def set_write_buffer_limits(self, _: int) -> None:
        """There is no buffer."""
        return

    def is_closing(self) -> bool:
        """Never closes."""
        return False

    def get_extra_info(self, _: str) -> None:
        """There is no socket."""
        return


Case = Literal["basic", "token"]
"""What the exchange takes: a fixed header, or a token that is there."""

CASES: tuple[Case, ...] = ("basic", "token")

BASIC = Grant(
    headers=(("Authorization", "Basic YmVuY2g6c2VjcmV0"),),
    secrets=(b"secret", b"YmVuY2g6c2VjcmV0"),
)
"""What is injected."""


class WarmSource:
    """A grant source with a current grant, as for a valid token."""

    def __init__(self, grant: Grant) -> None:
        self.grant: Grant | None = grant

    async def obtain(self) -> Grant:
        """Never called."""
        raise RuntimeError("the warm path must not obtain a grant")

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        """Never asked."""
        raise RuntimeError(f"a good response is not reported: {status} {grant} {body!r}")

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        """Never asked."""
        raise RuntimeError(f"a good response asks for no other grant: {grant}")


def integration(case: Case, signing: SigningRules | None) -> Integration:
    """Build an integration that the warm path treats like `basic`, or like `oauth2` with a token."""
    prefix = parse_prefix("http://upstream.test:8081/api")
    places = InjectionPoints(headers=("Authorization",))
    policy, traits = Policy(prefixes=(prefix,)), CredentialTraits(places, signing=signing)
    if case == "token":
        policy = Policy(domains=(Domain(prefix.origin),), forbidden=(Forbidden(prefix.origin, "/oauth2/token"),))
        traits = CredentialTraits(places, calls=True, watched=frozenset({401}), signing=signing)
    secrets = SecretLoader(lambda: FixedCredential(Grant()))
    return Integration("bench", "oauth2" if case == "token" else "basic", policy, prefix, secrets, traits)


def plane(
    served: Integration, grant: Grant, presets: Sequence[Preset] = (), callers: Mapping[bytes, Caller] | None = None
) -> DataPlane:
    """Build a plane with one integration, its grant, these presets and callers, and access log `errors`."""
    return DataPlane(
        Snapshot(integrations={"bench": served}, callers=callers, presets={preset.id: preset for preset in presets}),
        source_of=lambda _: WarmSource(grant),
        identity_of=lambda _: None,
        dialer=Dialer(NetworkRules()),
        metrics=Metrics(),
        access=AccessLog(LineWriter.stderr(), "errors", False),
        audit=AuditLog(LineWriter.stderr(), "off"),
        leaves=Leaves(Metrics(), repr),
        report=lambda defect, _: repr(defect),
    )


def exchange_once(
    case: Case = "basic",
    *,
    request: bytes = REQUEST,
    presets: Sequence[Preset] = (),
    callers: Mapping[bytes, Caller] | None = None,
    grant: Grant = BASIC,
    signing: SigningRules | None = None,
) -> tuple[Callable[[], None], Wire, Wire]:
    """Return a function that runs one exchange over warm connections, and the two wires that it writes to.

    `signing` are the rules of the grant's signer, where it has one.
    """
    data_plane = plane(integration(case, signing), grant, presets, callers)
    caller, upstream = Wire(), Wire()
    downstream = data_plane.connection()
    downstream.connection_made(cast(asyncio.Transport, caller))
    data_plane.router.is_listener_host(b"127.0.0.1:8080")
    compiled = data_plane.router.find(b"bench")
    if compiled is None:
        raise RuntimeError("the integration is not found")
    (pool,) = compiled.pools()
    connection = UpstreamConnection(data_plane.worker, pool)
    connection.connection_made(cast(asyncio.Transport, upstream))
    pool.offer(connection)

    def once() -> None:
        downstream.data_received(request)
        connection.data_received(RESPONSE)

    return once, caller, upstream


def warm(case: Case) -> Callable[[], None]:
    """Return the function of `exchange_once`, after one checked exchange."""
    once, caller, upstream = exchange_once(case)
    once()
    if b"Authorization: Basic YmVuY2g6c2VjcmV0\r\n" not in upstream.written or not caller.written.endswith(b"y" * 200):
        raise RuntimeError("the exchange did not go through")
    return once


def in_turn(
    cases: Mapping[C, Callable[[], None]], rounds: int, times: int, clock: Callable[[], float]
) -> dict[C, list[float]]:
    """Return the microseconds of one call of each case, in turn, in rounds of `times` calls."""
    times_by_case: dict[C, list[float]] = {case: [] for case in cases}
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for case, once in cases.items():
            began = clock()
            for _ in range(times):
                once()
            times_by_case[case].append((clock() - began) / times * 1e6)
    return times_by_case


def run() -> dict[str, float]:
    """Return the microseconds of one exchange of each case, in turn: best and median of the rounds.

    `token_share` is the token's best over that of `basic`.
    """
    rounds = in_turn({case: warm(case) for case in CASES}, ROUNDS, EXCHANGES, time.perf_counter)
    best = {case: min(times) for case, times in rounds.items()}
    return {
        "best_us": best["basic"],
        "median_us": statistics.median(rounds["basic"]),
        "token_best_us": best["token"],
        "token_median_us": statistics.median(rounds["token"]),
        "token_share": best["token"] / best["basic"],
    }


def main() -> None:
    """Print the figures."""
    figures = run()
    print(
        f"one exchange, no sockets: {figures['best_us']:.2f} us "
        f"(best of {ROUNDS}; median {figures['median_us']:.2f})\n"
        f"the same with a token:    {figures['token_best_us']:.2f} us "
        f"(best of {ROUNDS}; median {figures['token_median_us']:.2f}), "
        f"{figures['token_share']:.3f} of the first"
    )


if __name__ == "__main__":
    main()
