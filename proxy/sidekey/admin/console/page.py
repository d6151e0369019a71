"""A page: which requests it is for, who may see it, and what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sidekey.admin.api.service import Service
from sidekey.admin.console.backend import Backend
from sidekey.admin.console.sessions import Visitor
from sidekey.runtime.admin_rules import Permission
from sidekey.runtime.snapshot import Address


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is logged in.

    `proxy` is where the proxy listener is bound; `query` and `form` have the first value of each name.
    """

    service: Service
    visitor: Visitor
    backend: Backend
    proxy: Address
    names: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict, repr=False)

    def may(self, role: Permission) -> bool:
        """Whether this operator may do what a role may."""
        return self.visitor.operator.may(role)


@dataclass(frozen=True, slots=True)
class View:
    """A page to be made of a template."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where to go next, by GET (RFC 9110 15.4.4)."""

    path: str


Handle = Callable[[Visit], Awaitable[View | Redirect]]


@dataclass(frozen=True, slots=True)
class Page:
    """A page. The names in braces of its path match any segment, as in the routes of the API."""

    method: str
    path: str
    handle: Handle
    role: Permission = "viewer"
