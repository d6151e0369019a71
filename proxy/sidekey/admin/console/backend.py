"""Asks the API's own functions for what a page shows or does: every rule of theirs holds here as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidekey.admin.api.ask import Ask, Condition
from sidekey.admin.api.operation import perform
from sidekey.admin.api.operators import Operator
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service


@dataclass(frozen=True, slots=True)
class Given:
    """What an operation gave: JSON, and the version of what it shows where it has one."""

    value: Any
    version: int | None


class Backend:
    """The operations of the API, by name, for one operator who comes from `source`."""

    def __init__(self, service: Service, routes: Mapping[str, Route], operator: Operator, source: str) -> None:
        self._service = service
        self._routes = routes
        self._operator = operator
        self._source = source

    async def ask(
        self,
        name: str,
        names: Mapping[str, str] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        version: int | None = None,
    ) -> Given:
        """Do what the operation of this name does. Raises ApiProblem."""
        route = self._routes[name]
        ask = Ask(self._operator, route.action, route.writes, names or {}, source=self._source)

        condition = Condition() if version is None else Condition(frozenset({version}))

        async def read(ask: Ask) -> Ask:
            return replace(ask, query=query or {}, body=body, condition=condition)

        answer = await perform(self._service, route, ask, read)
        if not answer.body:
            return Given(None, None)
        value = await self._service.run(json.loads, answer.body)
        return Given(value, value["version"] if "ETag" in answer.headers else None)
