"""Does what a route does, for whoever asks: a request of the API, or a page of the console. Every rule stands here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service
from sidekey.admin.api.yaml_documents import with_lines

_AUDITED: Final = frozenset(
    {"forbidden", "not_found", "exists", "read_only", "in_use", "overlaps", "changed", "invalid", "reenter"}
)
"""What the audit has of changes that are refused: those that somebody may have meant."""


async def perform(service: Service, route: Route, ask: Ask, read: Callable[[Ask], Awaitable[Ask]]) -> Answer:
    """Return the response of a route to a known operator. Raises ApiProblem, with lines if the body was YAML.

    `read` adds what was sent with the request, and is not called where the operator may not use the route.
    """
    try:
        _check_role(ask, route)
        ask = await read(ask)
        answer = await route.handle(service, ask)
    except ApiProblem as problem:
        problem.errors = await service.run(with_lines, problem.errors, ask.table)
        if route.writes:
            service.metrics.admin_changes[route.writes, problem.code] += 1
            if problem.code in _AUDITED:
                await service.note_refusal(ask, problem.code)
        raise
    if route.writes:
        service.metrics.admin_changes[route.writes, "ok"] += 1
    return answer


def _check_role(ask: Ask, route: Route) -> None:
    if not ask.operator.may(route.role):
        raise ApiProblem("forbidden", f"this needs the role {route.role}: yours is {ask.operator.role}")
