"""How an exchange gets its grant and its client certificate: at once where they are, else by a task that waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from sidekey.dataplane.admission import readmit, settle
from sidekey.dataplane.gathering import gather
from sidekey.errors import ProblemError

if TYPE_CHECKING:
    from sidekey.credentials.base import Grant
    from sidekey.credentials.identity import IdentitySource
    from sidekey.dataplane.exchange import Exchange


def run(exchange: Exchange, work: Callable[[], Awaitable[None]]) -> None:
    """Let an exchange wait in a task: what is raised in it is answered."""
    exchange.plane.spawn(_answered(exchange, work))


async def _answered(exchange: Exchange, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except ProblemError as raised:
        exchange.fail(raised.problem)
    except Exception as error:  # noqa: BLE001  the edge of a task: a defect is reported and answered
        exchange.fail(exchange.plane.defect(error))


def begin(exchange: Exchange) -> None:
    """Set an admitted exchange going."""
    lane = exchange.lane
    if lane.undecided:
        if not exchange.complete:
            exchange.caller.hold_body()
        run(exchange, partial(_decide, exchange))
    elif not lane.places.body or gather(exchange):
        proceed(exchange)


async def _decide(exchange: Exchange) -> None:
    """Judge the target once it is known what by."""
    lane = await exchange.plane.decided(exchange.lane)
    if exchange.finished:
        return
    fault = readmit(exchange, lane)
    if fault is not None:
        exchange.fail(fault)
        return
    exchange.caller.release_body()
    begin(exchange)


def proceed(exchange: Exchange, *, judged: bool = True) -> None:
    """Take the grant that is there, or wait for one. `judged` says that the target was judged just now."""
    grant = exchange.lane.source.grant
    if grant is not None:
        take(exchange, grant, judged=judged)
        return
    if not exchange.complete:
        exchange.caller.hold_body()
    run(exchange, partial(_fetch, exchange))


async def _fetch(exchange: Exchange) -> None:
    grant = await exchange.lane.source.obtain()
    if not exchange.finished:
        take(exchange, grant, judged=False)


def take(exchange: Exchange, grant: Grant, *, judged: bool) -> None:
    """Go on with this grant. Where grants tell the base URL, a target not `judged` by this one's is judged again."""
    exchange.grant = grant
    lane = exchange.lane
    if lane.learns and ((grant is not lane.learnt and lane.learn(grant)) or not judged):
        fault = settle(exchange)
        if fault is not None:
            exchange.fail(fault)
            return
    certificate = lane.certificate
    if certificate is not None:
        identity = certificate.identity
        if identity is None:
            if not exchange.complete:
                exchange.caller.hold_body()
            run(exchange, partial(_equip, exchange, certificate))
            return
        lane.equip(exchange.route, identity)
    exchange.dispatch()


async def _equip(exchange: Exchange, certificate: IdentitySource) -> None:
    """Wait for a client certificate; the grant may have lapsed by then."""
    await certificate.obtain()
    if not exchange.finished:
        proceed(exchange, judged=False)
