"""The result of loading a config."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from sidekey.config.build.snapshot import FileContent
from sidekey.config.errors import ConfigError, Kind
from sidekey.config.file_stamps import Stamp
from sidekey.config.secrets import Stamps
from sidekey.snapshot.snapshot import Snapshot

STOPPING: Final[tuple[Kind, ...]] = ("error", "absent", "unwritable")
"""Kinds of findings with which `run` does not start. `check` may run on another machine: for it `absent` is a warning.
"""

LACKING: Final[tuple[Kind, ...]] = ("unreadable", "refused", "mismatched", "writable")
"""Kinds of findings with which `run` continues, without what needs it: errors for `check` and `run --strict`."""


class Found(NamedTuple):
    """A finding at its place in a file."""

    error: ConfigError
    kind: Kind


class RetainedIntegration(NamedTuple):
    """Why new files of an integration cannot be used, and their stamps: the integration is that of an earlier load."""

    reasons: list[ConfigError]
    files: Stamps


@dataclass(slots=True)
class Loaded:
    """A config that was read. `snapshot` and `files` are None if there are errors.

    `kept` has the integrations that could not be built from their files as they are now, at each load.

    `stamps` are those of everything that was read, with the config itself and its folder: a later difference causes a
    reload. Paths are absolute, and links in them are not resolved. Client certificates are not among them: their own
    loaders read them again. `certificates` are the stamps of those that were read at this load.

    `log_format` is the `log.format` of the config, also if another key has an error. `transient` means that a file
    could not be read for a reason that may pass soon (too many open files), although no stamp will change.
    """

    snapshot: Snapshot | None = None
    files: FileContent | None = None
    findings: list[Found] = field(default_factory=list)
    kept: dict[str, RetainedIntegration] = field(default_factory=dict)
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    certificates: dict[Path, Stamp] = field(default_factory=dict)
    log_format: Literal["auto", "json", "text"] = "auto"
    transient: bool = False

    def add(self, kind: Kind, errors: Iterable[ConfigError]) -> None:
        """Add findings of one kind."""
        self.findings += (Found(error, kind) for error in errors)

    def of(self, *kinds: Kind) -> list[ConfigError]:
        """Return the findings of these kinds in the order of file, line and column."""
        return [error for error, kind in self.findings if kind in kinds]

    @property
    def errors(self) -> list[ConfigError]:
        """The errors of the config."""
        return self.of("error")

    @property
    def warnings(self) -> list[ConfigError]:
        """The warnings."""
        return self.of("warning")

    def stopping(self, *, strict: bool) -> list[ConfigError]:
        """Return the findings with which the config must not be used."""
        return self.of(*STOPPING, *(LACKING if strict else ()))

    def sort(self) -> None:
        """Sort the findings and the reasons of `kept` by their places, and remove duplicates."""
        # They are nearly in order. A set would lose that, and one long sort would block all other threads.
        self.findings[:] = sorted(dict.fromkeys(self.findings))
        for each in self.kept.values():
            each.reasons[:] = sorted(dict.fromkeys(each.reasons))
