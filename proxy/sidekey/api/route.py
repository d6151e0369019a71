"""Routes of the API, and the table that finds them by path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from pydantic import BaseModel

from sidekey.api.messages import JSON, ApiRequest, ApiResult
from sidekey.api.models import Body
from sidekey.api.service import ApiServices
from sidekey.snapshot.admin import Permission

PREFIX: Final = "/api/v1"

MERGE_PATCH: Final = "application/merge-patch+json"
"""RFC 7396."""

CONSOLE: Final = "Sidekey-Console"
"""The header that the console sends. A page of another site cannot send it without a CORS preflight."""

IDEMPOTENCY_KEY: Final = "[A-Za-z0-9_-]{16,64}"
"""Pattern of an Idempotency-Key."""

Handle = Callable[[ApiServices, ApiRequest], Awaitable[ApiResult]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation, for routing, the OpenAPI document and docs/api.md.

    The decorator `@partial(Route, ...)` turns a handler into its route: the function becomes `handle`, and its
    docstring the summary. `name` is the operationId of the OpenAPI document.

    `path` is relative to `PREFIX`. A parameter in braces matches one segment. The operator needs `permission`. `body`
    is the model of the request body, whose media type must be in `accepts`. `response` is the model of the response
    body, and `status` the status on success. With `offers_yaml` the response may also be YAML. `conditional` requires
    If-Match. `creates` is the model of the response if `If-None-Match: *` creates the resource. `codes` are the
    problem codes specific to this route.
    """

    method: str
    path: str
    name: str
    handle: Handle
    _: KW_ONLY
    permission: Permission
    query: type[Body] | None = None
    body: type[BaseModel] | None = None
    accepts: tuple[str, ...] = (JSON,)
    response: type[BaseModel] | None = None
    status: int = 200
    offers_yaml: bool = False
    conditional: bool = False
    creates: type[BaseModel] | None = None
    sets_cookie: bool = False
    codes: tuple[str, ...] = ()
    needs_idempotency_key: bool = False
    """Whether the request needs an Idempotency-Key."""
    exact: bool = False
    """Whether to parse fractions in the body as decimals, which keep every digit."""
    needs_store: bool = True
    """Whether the response is 503 `store_unavailable` until Sidekey has read the store."""
    writes: str = ""
    """The kind of resource that the route changes, for audit and metrics, or empty."""
    action: str = ""
    """The change, for the audit."""
    summary_text: str = ""
    """The summary, if the function handles routes of several kinds of resources."""

    @property
    def summary(self) -> str:
        """The summary of the operation, in the OpenAPI document and docs/api.md."""
        return self.summary_text or " ".join((self.handle.__doc__ or "").split())


@dataclass(slots=True)
class _Node:
    """A segment in the tree of paths. `parameters` and `routes` (by method) belong to the path that ends here."""

    literals: dict[str, _Node] = field(default_factory=dict)
    wildcard: _Node | None = None
    parameters: tuple[str, ...] = ()
    routes: dict[str, Route] = field(default_factory=dict)


class PathTable:
    """Finds routes by path. A parameter matches any non-empty segment, but a route with that literal segment wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.path.split("/")[1:]:
                if segment.startswith("{"):
                    node.wildcard = node.wildcard or _Node()
                    node = node.wildcard
                else:
                    node = node.literals.setdefault(segment, _Node())
            node.routes[route.method] = route
            node.parameters = path_parameters(route.path)

    def find(self, path: str) -> tuple[Mapping[str, Route], dict[str, str]]:
        """Return the routes of a path by method, and the path parameters. Both are empty for an unknown path."""
        node, values = self._root, []
        for segment in path.split("/")[1:]:
            child = node.literals.get(segment)
            if child is None and segment:
                child = node.wildcard
                values.append(segment)
            if child is None:
                return {}, {}
            node = child
        return node.routes, dict(zip(node.parameters, values, strict=True))


def needs_console(route: Route) -> bool:
    """Return True if every request needs the header `CONSOLE`. On other routes only requests with a cookie need it."""
    return route.permission == "anonymous" and route.method != "GET"


def path_parameters(path: str) -> tuple[str, ...]:
    """Return the names of the parameters in the path of a route."""
    return tuple(segment[1:-1] for segment in path.split("/") if segment.startswith("{"))
