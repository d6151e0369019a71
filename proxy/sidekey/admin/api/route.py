"""A route of the API: what it takes, what it responds, and who may use it. The OpenAPI document is made of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sidekey.admin.api.answer import Answer
from sidekey.runtime.admin_rules import Role

if TYPE_CHECKING:
    from sidekey.admin.api.operators import Operator
    from sidekey.admin.api.service import Service

PREFIX: Final = "/api/v1"

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
"""RFC 7396."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was let in. `names` are those in its path, `query` its parameters, each given once.

    `version` is what If-Match names, None where the route needs none; `body` is the JSON that was sent, None where the
    route takes none; `source` the address it came from.
    """

    operator: Operator
    route: Route
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    source: str = ""

    @property
    def document(self) -> Mapping[str, Any]:
        """The body of a route that takes one."""
        if self.body is None:
            raise RuntimeError("the route takes no body")
        return self.body


Handle = Callable[["Service", Ask], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    `path` begins below `PREFIX` and has names in braces, each of which matches one segment. `role` is the least that
    may use it. `query` are JSON schemas by parameter. `body` is the name of the schema of what is sent, of the media
    types `accepts`; empty: nothing may be. `gives` is the name of the schema of what is responded with `status`;
    empty: nothing. `conditional` says that it needs If-Match. `codes` are the problems of its own.
    """

    method: str
    path: str
    name: str
    summary: str
    role: Role
    handle: Handle
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    body: str = ""
    accepts: tuple[str, ...] = (JSON,)
    gives: str = ""
    status: int = 200
    conditional: bool = False
    codes: tuple[str, ...] = ()
    writes: str = ""
    """What it changes, as the audit and metrics have it: integration, caller or token; empty: nothing."""
    action: str = ""
    """What it does to that, as the audit has it."""

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path."""
        return tuple(self.path.split("/")[1:])

    def match(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """The names in a path; None where it is another."""
        if len(segments) != len(self.segments):
            return None
        names: dict[str, str] = {}
        for mine, given in zip(self.segments, segments, strict=True):
            if mine.startswith("{"):
                names[mine[1:-1]] = given
            elif mine != given:
                return None
        return names
