"""A request of the API, as its handlers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidekey.admin.api.operators import Operator
from sidekey.settings.config_errors import Table


@dataclass(frozen=True, slots=True)
class Condition:
    """What a change expects of the row in its path (RFC 9110 13.1).

    If-Match names `versions`, `None` for any of them; `absent` is If-None-Match: there must be no row. The default is
    never met.
    """

    versions: frozenset[int] | None = frozenset()
    absent: bool = False

    def allows(self, version: int) -> bool:
        """Return True if a row of this version may be changed."""
        return not self.absent and (self.versions is None or version in self.versions)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that was let in.

    `action` and `thing` are what it does to which kind of thing, for the audit; empty: it changes nothing. `names` are
    those in its path, `query` its parameters, each given once. `condition` is what a change expects; `body` is the JSON
    that was sent, None where the route takes none; `table` is the same with its lines, if it was sent as YAML;
    `as_yaml` says that the response should be YAML. `source` is the address it came from.
    """

    operator: Operator
    action: str = ""
    thing: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    condition: Condition = Condition()
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    table: Table | None = field(default=None, repr=False)
    as_yaml: bool = False
    source: str = ""

    @property
    def document(self) -> Mapping[str, Any]:
        """The body of a route that takes one."""
        if self.body is None:
            raise RuntimeError("the route takes no body")
        return self.body
