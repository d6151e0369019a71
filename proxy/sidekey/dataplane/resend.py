"""Sending a request a second time: on a new connection after a stale one, or with another grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidekey.dataplane.granting import proceed
from sidekey.errors import Problem, ProblemError

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange


async def send_again(exchange: Exchange, data: bytes) -> None:
    """Make a new connection and write `data` to it, the whole request as it was sent before."""
    plane = exchange.plane
    pool = exchange.route.pool
    try:
        connection = await pool.connect()
    except ProblemError as raised:
        exchange.fail(raised.problem.maybe_sent())
        return
    except Exception as error:  # noqa: BLE001  the edge of a task: a defect is reported and answered
        exchange.fail(plane.defect(error))
        return
    if exchange.finished:
        connection.transport.abort()
    elif exchange.grant is exchange.lane.source.grant:
        exchange.upstream = connection
        connection.exchange = exchange
        connection.transport.write(data)
        connection.await_answer()
    else:
        # The grant that stands in `data` has expired meanwhile, or was renewed.
        pool.offer_new(connection)
        if exchange.kept is None:
            detail = "the upstream closed the connection before it answered"
            exchange.fail(Problem("upstream_protocol_error", detail, error="connection_terminated", sent="maybe"))
        else:
            begin_again(exchange)
            proceed(exchange, judged=False)


def begin_again(exchange: Exchange) -> None:
    """Forget the answer, so that the request may be written anew; its body was kept."""
    exchange.drop_upstream()
    exchange.held = None
    exchange.status = 0
    exchange.answer_complete = exchange.chunked_out = False
    exchange.body = exchange.kept or []
