"""The result of loading a config."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sidekey.config.build.snapshot import FileContent
from sidekey.config.errors import ConfigError, FindingKind
from sidekey.config.file_stamps import Stamp
from sidekey.config.secrets import Stamps
from sidekey.snapshot.snapshot import Snapshot

BLOCKING: Final[tuple[FindingKind, ...]] = ("error", "absent", "unwritable")
"""Kinds of findings with which `run` does not start. `check` may run on another machine: it warns of `absent`."""

DEGRADING: Final[tuple[FindingKind, ...]] = ("unreadable", "retained", "refused", "mismatched", "writable")
"""Kinds of findings with which `run` starts, but some integration or feature is unavailable or unsafe.

They are errors for `check` and `run --strict`.
"""


class LocatedFinding(NamedTuple):
    """A finding with its location in a file."""

    error: ConfigError
    kind: FindingKind


class RetainedIntegration(NamedTuple):
    """The reasons why an integration's changed files cannot be used, so that its previous build stays in use.

    `files` are the stamps of the changed files.
    """

    reasons: list[ConfigError]
    files: Stamps


@dataclass(slots=True)
class Loaded:
    """The result of a load. `snapshot` and `files` are None if there are errors.

    `retained` has the integrations whose previous build stays in use, because their changed files cannot be used.

    `stamps` cover the config, its folder and all files that were read: a later difference causes a reload. Paths are
    absolute, with their links. Client certificates have their own loaders, which read them again: `certificate_stamps`
    are the stamps of the certificate files that this load read.

    `log_format` is the `log.format` of the config, even if another key has an error. `transient` means that a file
    could not be read for a reason that may pass soon (too many open files), although no stamp will change.
    """

    snapshot: Snapshot | None = None
    files: FileContent | None = None
    findings: list[LocatedFinding] = field(default_factory=list)
    retained: dict[str, RetainedIntegration] = field(default_factory=dict)
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    certificate_stamps: dict[Path, Stamp] = field(default_factory=dict)
    log_format: Literal["auto", "json", "text"] = "auto"
    transient: bool = False

    def add(self, kind: FindingKind, errors: Iterable[ConfigError]) -> None:
        """Add findings of one kind."""
        self.findings += (LocatedFinding(error, kind) for error in errors)

    def of(self, *kinds: FindingKind) -> list[ConfigError]:
        """Return the findings of these kinds. After `sort`, they are in the order of file, line and column."""
        return [error for error, kind in self.findings if kind in kinds]

    @property
    def errors(self) -> list[ConfigError]:
        """Findings with which no command can use the config."""
        return self.of("error")

    @property
    def warnings(self) -> list[ConfigError]:
        """Findings with which every command can use the config."""
        return self.of("warning")

    def blocking(self, *, strict: bool) -> list[ConfigError]:
        """Return the findings with which the config must not be used."""
        return self.of(*BLOCKING, *(DEGRADING if strict else ()))

    def sort(self) -> None:
        """Sort the findings and the reasons in `retained` by location, and remove duplicates."""
        # `dict.fromkeys` keeps their order, which is nearly right. A full sort would block all other threads.
        self.findings[:] = sorted(dict.fromkeys(self.findings))
        for integration in self.retained.values():
            integration.reasons[:] = sorted(dict.fromkeys(integration.reasons))
