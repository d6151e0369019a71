"""A route of the API: what it takes, what it responds, and who may use it. The OpenAPI document is made of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.service import Service
from sidekey.runtime.admin_rules import Role

PREFIX: Final = "/api/v1"

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
"""RFC 7396."""


Handle = Callable[[Service, Ask], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    `path` begins below `PREFIX` and has names in braces, each of which matches one segment. `role` is the least that
    may use it. `query` are JSON schemas by parameter. `body` is the name of the schema of what is sent, of the media
    types `accepts`; empty: nothing may be. `gives` is the name of the schema of what is responded with `status`;
    empty: nothing; with `gives_yaml` also as YAML. `conditional` says that it needs If-Match; `creates` that
    `If-None-Match: *` creates instead, and names the schema of that response. `codes` are the problems of its own.
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
    gives_yaml: bool = False
    conditional: bool = False
    creates: str = ""
    codes: tuple[str, ...] = ()
    needs_store: bool = True
    """Whether it responds 503 `store_unavailable` until the store was read."""
    writes: str = ""
    """What it changes, as the audit and metrics have it: integration, preset, caller or token; empty: nothing."""
    action: str = ""
    """What it does to that, as the audit has it."""

    @property
    def segments(self) -> tuple[str, ...]:
        """The parts of the path."""
        return tuple(self.path.split("/")[1:])

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The names in a path, none of which is empty; None where it is another."""
        return match(self.path, segments)


def match(path: str, segments: Sequence[str]) -> dict[str, str] | None:
    """What stands in these segments for the names in braces of a path, none of it empty; None where it is another."""
    own = path.split("/")[1:]
    if len(own) != len(segments):
        return None
    names: dict[str, str] = {}
    for mine, given in zip(own, segments, strict=True):
        if mine.startswith("{") and given:
            names[mine[1:-1]] = given
        elif mine != given:
            return None
    return names
