"""A peer: a program that forwards to one upstream and adds an `Authorization: Basic` header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from benchmarks.machine import find_program
from benchmarks.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Job:
    """The settings of a peer's start. It writes only below `folder`.

    It listens on 127.0.0.1:`port`, and on `admin_port` where it has pages of its own.
    """

    folder: Path
    port: int
    admin_port: int
    upstream: Upstream
    open_files: int


class Peer(Protocol):
    """A program under test in one configuration."""

    @property
    def name(self) -> str:
        """Column in the table."""
        ...

    @property
    def pages(self) -> tuple[str, ...]:
        """Status pages at the admin port: readiness and metrics."""
        ...

    @property
    def only_tls(self) -> bool:
        """Whether its callers must use TLS."""
        ...

    @property
    def fields(self) -> Mapping[str, str]:
        """Header fields that a caller must send."""
        ...

    def program(self) -> str | None:
        """Return the program's path, or None if it is not installed."""
        ...

    def version(self) -> list[str]:
        """Return the command that prints its version."""
        ...

    def command(self, job: Job) -> list[str]:
        """Write the config and return the command that runs it in the foreground."""
        ...

    def path(self, rest: str) -> str:
        """Return the path at which a caller reaches `rest` below the upstream's base /api."""
        ...


class Installed:
    """A peer that is a program on the PATH and does not change paths."""

    name: ClassVar[str]
    pages: ClassVar[tuple[str, ...]] = ()
    only_tls: ClassVar[bool] = False

    @property
    def fields(self) -> Mapping[str, str]:
        """Header fields that a caller must send: none."""
        return {}

    def program(self) -> str | None:
        """Where it is installed."""
        return find_program(self.name)

    def version(self) -> list[str]:
        """The command that prints its version."""
        return [self.program() or self.name, "-v"]

    def path(self, rest: str) -> str:
        """Base and rest."""
        return f"/api/{rest}"
