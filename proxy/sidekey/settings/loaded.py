"""The result of loading a config."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.config_errors import ConfigError, Loc
from sidekey.settings.file_side import FileSide
from sidekey.settings.secrets import Stamps
from sidekey.settings.stamps import Stamp


@dataclass(slots=True)
class Loaded:
    """A config that was read. `snapshot`, and what is of `files` in it, is None where there are `errors`.

    `unreadable` are secrets and CA files that could not be read: errors for `check` and `run --strict`, while `run`
    continues without what needs them. All lists are in the order of file, line and column.

    `refused` are errors of client certificates that were read, and must not be used: treated as `unreadable`.

    `absent` are source addresses that this machine does not have: errors for `run`, warnings for `check`, which may run
    on another machine.

    `unwritable` tells of a log file that cannot be written to: errors for `run` and `check`, and nothing to commands
    that log to standard error.

    `mismatched` are presets that cannot be used with their integrations: errors for `check` and `run --strict`, while
    `run` continues.

    `writable` are files, and folders on their paths, that other users may change: errors for `check` and
    `run --strict`, while `run` logs them and continues.

    `kept` says of integrations why what they read cannot be used now: they are those of an earlier load, unchanged, and
    these errors are not among `unreadable`. It contains them at each load, `failed` those that were read at this one,
    with the stamps of their files.

    `stamps` are those of everything that was read, the config itself and its folder included: whatever differs later
    causes a reload. Paths are absolute, links not resolved. Client certificates are not among them: their own
    loaders read them again. `certificates` are the stamps of those that were read at this load.

    `places` are those of the client certificates that come by {url}, by integration: they are checked only
    after they are fetched (`fetched`).

    `log_format` is the `log.format` of the config, also where another key has an error.

    `transient` says that a file of the config, or of a secret, could not be read for a reason that may pass soon
    (too many open files), although no stamp will change.
    """

    snapshot: Snapshot | None = None
    files: FileSide | None = None
    errors: list[ConfigError] = field(default_factory=list)
    warnings: list[ConfigError] = field(default_factory=list)
    unreadable: list[ConfigError] = field(default_factory=list)
    refused: list[ConfigError] = field(default_factory=list)
    absent: list[ConfigError] = field(default_factory=list)
    unwritable: list[ConfigError] = field(default_factory=list)
    mismatched: list[ConfigError] = field(default_factory=list)
    writable: list[ConfigError] = field(default_factory=list)
    kept: dict[str, list[ConfigError]] = field(default_factory=dict)
    failed: dict[str, Stamps] = field(default_factory=dict)
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    certificates: dict[Path, Stamp] = field(default_factory=dict)
    places: dict[str, dict[Loc, ConfigError]] = field(default_factory=dict)
    log_format: Literal["auto", "json", "text"] = "auto"
    transient: bool = False

    @property
    def lacking(self) -> list[ConfigError]:
        """What `run` continues with nevertheless: errors for `check` and `run --strict`."""
        return [*self.unreadable, *self.refused, *self.mismatched, *self.writable]

    def fetched(self, name: str) -> tuple[list[ConfigError], list[ConfigError]]:
        """Errors and warnings of such a certificate, after its loader's `load`."""
        certificate = None if self.snapshot is None else self.snapshot.integrations[name].certificate
        if certificate is None:
            return [], []
        places, reasons = self.places[name], () if certificate.unreadable is None else certificate.unreadable.reasons
        errors, warnings = (
            [places[loc]._replace(message=message) for loc, message in found]
            for found in (reasons, certificate.warnings)
        )
        return errors, warnings

    def sort(self) -> None:
        """Sort the findings by their places, each of them once."""
        for errors in (
            self.errors,
            self.warnings,
            self.unreadable,
            self.refused,
            self.absent,
            self.unwritable,
            self.mismatched,
            self.writable,
            *self.kept.values(),
        ):
            # They come nearly in order, which a set would lose: one long sort would hold the interpreter.
            errors[:] = sorted(dict.fromkeys(errors))
