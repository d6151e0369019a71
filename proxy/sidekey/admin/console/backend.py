"""Calls the handlers of the API for the pages of the console, so that the same rules apply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidekey.admin.api.dispatch import perform, read_query
from sidekey.admin.api.messages import ApiRequest, Condition
from sidekey.admin.api.operators import Operator
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service


@dataclass(frozen=True, slots=True)
class Given:
    """The JSON of a response, and the version of the resource, if it has one."""

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
        """Call the handler of an operation. Raises ApiProblem."""
        route = self._routes[name]
        request = ApiRequest(self._operator, route.action, route.writes, names or {}, source=self._source)
        condition = Condition() if version is None else Condition(frozenset({version}))

        async def read(request: ApiRequest) -> ApiRequest:
            return replace(request, query=read_query(route, query or {}), body=body, condition=condition)

        result = await perform(self._service, route, request, read)
        if not result.body:
            return Given(None, None)
        value = await self._service.run(json.loads, result.body)
        return Given(value, value["version"] if "ETag" in result.headers else None)
