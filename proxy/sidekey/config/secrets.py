"""Read the files and variables that references name. An error names the file or variable, and never has its content."""

from __future__ import annotations

import errno
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, Protocol

from sidekey.config.errors import FindingKind
from sidekey.config.file_entries import find_entry
from sidekey.config.file_stamps import UNREAD, Stamp, StampCache, stamp
from sidekey.credentials.commands import Command
from sidekey.credentials.fields import Reference, Source, clean_value
from sidekey.credentials.secret_holder import SecretHolder

MAX_FILE_SIZE = 64 << 10
"""Maximum bytes of a secret's file. A larger one is a mistake, such as a log file."""
_CHUNK = 64 << 10

TRANSIENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
"""Errors of a read that pass without a change of the file, so that its stamp does not show when to read it again."""

_VARIABLE = re.compile(r"[A-Z]{1,24}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_FILE_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.[a-z]{2,5}")
_PATH = re.compile(r"/?[a-z0-9._-]{1,64}(?:/[a-z0-9._-]{1,64})+")

Stamps = tuple[tuple[Path, Stamp], ...]
"""Files that were read, with their stamps from before."""

Versions = tuple[tuple[Command, int], ...]
"""Commands whose results were read, with the versions from before."""


class Recorded(NamedTuple):
    """What a build has read. `has_expired` is true if a secret of a command has expired."""

    files: Stamps = ()
    commands: Versions = ()
    has_expired: bool = False


NOT_RUN: Final = (
    "was not run: only `sidekey run` and `sidekey test` run it, with --allow-commands or --allow-commands=PROGRAM"
)
"""The reason without permission to run a command. It continues a sentence that begins with the program."""


class SecretExpired(ValueError):
    """The last secret of a command has expired, so that it must not be used any longer."""


def kind_of(reason: str) -> FindingKind:
    """Return the kind of a finding about a value that cannot be read.

    `check` runs no command, so it only warns of one; `run` does not start without the permission.
    """
    return "absent" if reason.endswith(NOT_RUN) else "unreadable"


class CommandResults(Protocol):
    """The methods of `config.commands.Commands` that readers call. The health check imports no module that logs."""

    def allows(self, command: Command) -> bool:
        """Return True if the program may run."""
        ...

    def require(self, command: Command) -> int:
        """Return the version of a command's result. Register the command if it is new."""
        ...

    def version(self, command: Command) -> int | None:
        """Return the version of a command's result, or None for an unknown command."""
        ...

    def read(self, command: Command) -> str:
        """Return the last secret of a command. Raises ValueError, or SecretExpired."""
        ...


def describe_source(source: Source, name: str) -> str:
    """Name a file, variable or program in an error, but not if the name may be a secret pasted by mistake.

    Secrets are usually base64, hex or a JWT. None of these looks like an absolute path in a folder that exists, like
    names in lower case with slashes, like a file name with an extension, or like words in capitals.
    """
    if source == "env":
        return f"environment variable {name}" if _VARIABLE.fullmatch(name) else "the environment variable"
    path = Path(name)
    is_absolute = path.is_absolute() and len(path.parts) > 2 and Path(*path.parts[:2]).is_dir()
    if is_absolute or _PATH.fullmatch(name) or _FILE_NAME.fullmatch(name):
        return name
    return "the program" if source == "command" else "the file"


class FileMissing(ValueError):
    """The file does not exist."""


class Transient(ValueError):
    """The file cannot be read now, for a reason that passes without a change of the file."""


class ReferenceReader(SecretHolder, ABC):
    """Reads references. A ValueError has the reason, and never the content."""

    __slots__ = ()

    @abstractmethod
    def __call__(self, reference: Reference) -> str:
        """Return the value. Remove one trailing newline, except from PEM. Raises ValueError."""

    def raw(self, reference: Reference, max_size: int) -> bytes:
        """Return the bytes of a reference, at most `max_size` of a file. Raises ValueError."""
        del max_size
        return self(reference).encode()

    def file(self, reference: Reference) -> Path | None:
        """Return the file that a reference names, or None."""
        del reference
        return None


class SecretReader(ReferenceReader):
    """Reads references from files and environment variables. Relative paths start at `folder`, with its links.

    Without `commands`, a secret of a command cannot be read.
    """

    __slots__ = ("_commands", "_environ", "_folder")

    folder_name: ClassVar = "the config file's folder"
    """How errors call `folder`."""

    def __init__(self, folder: Path, environ: Mapping[str, str], commands: CommandResults | None = None) -> None:
        self._folder = folder
        self._environ = environ
        self._commands = commands

    def __call__(self, reference: Reference) -> str:
        """Read the text of a reference, as `ReferenceReader`."""
        if reference.command is not None:
            return self._read_command(reference, reference.command)
        if reference.source not in ("file", "env"):
            return reference.value
        try:
            read = self._read_file if reference.source == "file" else self._read_variable
            return clean_value(reference, read(reference))
        except UnicodeError:
            raise ValueError(f"{describe_source(reference.source, reference.value)} must be UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{describe_source(reference.source, reference.value)} {error}") from None

    def raw(self, reference: Reference, max_size: int) -> bytes:
        """Read the bytes of a reference, as `ReferenceReader.raw`."""
        if reference.entry is not None or reference.source not in ("file", "env"):
            return self(reference).encode("utf-8", "replace")
        try:
            if reference.source == "file":
                return self.content(reference.value, max_size)
            return os.fsencode(self._variable(reference.value))
        except ValueError as error:
            raise ValueError(f"{describe_source(reference.source, reference.value)} {error}") from None

    def file(self, reference: Reference) -> Path | None:
        """Return the file that a reference names, or None."""
        return self.path(reference.value) if reference.source == "file" else None

    def path(self, name: str) -> Path:
        """Return the full path of a path in the config."""
        return self._folder / name

    def content(self, name: str, max_size: int) -> bytes:
        """Read a file of the config. Raises ValueError with the end of a sentence that begins with the file's name."""
        path = self.path(name)
        try:
            return read_bounded(path, max_size)
        except ValueError as error:
            if Path(name).is_absolute() or stamp(path) is not None:
                raise
            raise ValueError(f"{error}; a relative path starts at {self.folder_name}") from None

    def _read_file(self, reference: Reference) -> str:
        text = self.content(reference.value, MAX_FILE_SIZE).decode()
        return text if reference.entry is None else find_entry(reference.entry, text)

    def _read_variable(self, reference: Reference) -> str:
        value = self._variable(reference.value)
        # Bytes that are not UTF-8 become lone surrogates (PEP 383).
        value.encode()
        return value

    def _variable(self, name: str) -> str:
        value = self._environ.get(name)
        if value is None:
            raise ValueError("is not set")
        return value

    def _read_command(self, reference: Reference, command: Command) -> str:
        program = describe_source("command", command.program)
        if self._commands is None or not self._commands.allows(command):
            raise ValueError(f"{program} {NOT_RUN}")
        try:
            output = self._commands.read(command)
        except SecretExpired as error:
            raise SecretExpired(f"{program} {error}") from None
        except ValueError as error:
            raise ValueError(f"{program} {error}") from None
        try:
            return clean_value(reference, output)
        except ValueError as error:
            raise ValueError(f"the output of {program} {error}") from None


class RecordingReader(SecretReader):
    """A reader for one load that records which files and commands it reads, so that their changes cause a new build.

    Objects that outlive the load must not refer to it. `transient` is true if a read failed for a reason that passes
    without a change of the file. The reader adds the files of secrets to `secrets`, and starts new commands.
    """

    __slots__ = ("_has_expired", "_recorded", "_versions", "secrets", "stamp_of", "transient")

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        stamp_of: StampCache,
        secrets: set[Path] | None = None,
        commands: CommandResults | None = None,
    ) -> None:
        super().__init__(folder, environ, commands)
        self.stamp_of = stamp_of
        self.secrets: set[Path] = set() if secrets is None else secrets
        self.transient = False
        self._recorded: dict[Path, Stamp] = {}
        self._versions: dict[Command, int] = {}
        self._has_expired = False

    def __call__(self, reference: Reference) -> str:
        """Read the text of a reference, and record the file or command of a secret."""
        self._record_secret(reference)
        if reference.reread:
            # Its rotation must cause no build. If it cannot be read, a build must follow once it can.
            with suppress(ValueError):
                return SecretReader(self._folder, self._environ)(reference)
        try:
            return super().__call__(reference)
        except SecretExpired:
            self._has_expired = True
            raise

    def raw(self, reference: Reference, max_size: int) -> bytes:
        """Read the bytes of a reference, and record the file of a secret."""
        self._record_secret(reference)
        return super().raw(reference, max_size)

    def _record_secret(self, reference: Reference) -> None:
        path = self.file(reference)
        if path is not None and reference.is_secret:
            self.secrets.add(path)
        if reference.command is not None and self._commands is not None and self._commands.allows(reference.command):
            self._versions[reference.command] = self._commands.require(reference.command)

    def is_current(self, commands: Versions) -> bool:
        """Return True if no command has another result than in `commands`."""
        return self._commands is None or all(
            self._commands.version(command) == version for command, version in commands
        )

    def content(self, name: str, max_size: int) -> bytes:
        """Record and read a file of the config, as `SecretReader.content`."""
        self.record(name)
        try:
            return super().content(name, max_size)
        except Transient:
            self.transient = True
            # No later stamp equals this one, so the next load builds again whatever needs this file.
            self._recorded[self.path(name)] = UNREAD
            raise

    def record(self, name: str) -> None:
        """Record a file of the config that another function reads. Call this before the read."""
        path = self.path(name)
        self._recorded[path] = self.stamp_of(path)

    def pop_recorded(self) -> Recorded:
        """Return what was recorded since the last call, and forget it."""
        recorded = Recorded(tuple(self._recorded.items()), tuple(self._versions.items()), self._has_expired)
        self._recorded.clear()
        self._versions.clear()
        self._has_expired = False
        return recorded


def _open_nonblocking(path: str, flags: int) -> int:
    """Open without waiting: an ordinary open waits for ever for the writer of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_bounded(path: Path, max_size: int) -> bytes:
    """Read a regular file. Raises ValueError with the end of a sentence that begins with the file's name."""
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("must be a regular file")
            # In chunks: one large read allocates its whole size, which fails if memory is limited.
            chunks = iter(partial(file.read, _CHUNK), b"")
            data = b"".join(islice(chunks, max_size // _CHUNK + 1))
    except FileNotFoundError:
        raise FileMissing("does not exist") from None
    except OSError as error:
        kind = Transient if error.errno in TRANSIENT else ValueError
        raise kind(f"cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(data) > max_size:
        raise ValueError(f"must be at most {max_size >> 10} KiB")
    return data
