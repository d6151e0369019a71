"""Reads what references point to. An error says which file or variable, and why; it never repeats the content."""

from __future__ import annotations

import errno
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

from sidekey.config.file_stamps import UNREAD, Stamp, StampCache, stamp
from sidekey.credentials.fields import Reference, Source, clean_value
from sidekey.credentials.secret_holder import SecretHolder

MAX_FILE_SIZE = 64 << 10
"""Bytes of a secret's file; more is a mistake, such as a log file."""
_CHUNK = 64 << 10

TRANSIENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE})
"""Failures to read a file that pass without any change of it, so that no notification says when they are over."""

_VARIABLE = re.compile(r"[A-Z]{1,24}|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_FILE_NAME = re.compile(r"[\w.-]+(?:/[\w.-]+)*\.[a-z]{2,5}")
_PATH = re.compile(r"/?[a-z0-9._-]{1,64}(?:/[a-z0-9._-]{1,64})+")

Stamps = tuple[tuple[Path, Stamp], ...]
"""Files that something was read from, with their stamps of before."""


def named(source: Source, name: str) -> str:
    """How an error names a file or variable, unless the name may be a secret that was pasted in its place.

    A key is as a rule base64, hex or a JWT: none of these looks like an absolute path in a folder that exists, like
    several names in lower case with slashes between them, like a file name with an extension, or like words in
    capitals.
    """
    if source == "env":
        return f"environment variable {name}" if _VARIABLE.fullmatch(name) else "the environment variable"
    path = Path(name)
    rooted = path.is_absolute() and len(path.parts) > 2 and Path(*path.parts[:2]).is_dir()
    return name if rooted or _PATH.fullmatch(name) or _FILE_NAME.fullmatch(name) else "the file"


class Absent(ValueError):
    """There is no such file."""


class Transient(ValueError):
    """Why a file cannot be read now, where that passes without a change."""


class ReferenceReader(SecretHolder, ABC):
    """Reads references. What raises ValueError says why, and never what."""

    __slots__ = ()

    @abstractmethod
    def __call__(self, reference: Reference) -> str:
        """The value, without one trailing newline but in PEM."""

    def raw(self, reference: Reference, largest: int) -> bytes:
        """Return the bytes of a reference, at most `largest` of a file. Raises ValueError."""
        del largest
        return self(reference).encode()

    def file(self, reference: Reference) -> Path | None:
        """The file that a reference names; None where it names none."""
        del reference
        return None


class SecretReader(ReferenceReader):
    """Reads references; relative paths start at `folder`, which is taken as it is (no link is resolved before)."""

    __slots__ = ("_environ", "_folder")

    start: ClassVar = "the config file's folder"
    """What `folder` is, in words."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ

    def __call__(self, reference: Reference) -> str:
        """The value, without one trailing newline but in PEM. Raises ValueError with the reason."""
        if reference.source == "file":
            return self._file(reference)
        if reference.source == "env":
            return self._variable(reference)
        return reference.value

    def raw(self, reference: Reference, largest: int) -> bytes:
        """The bytes of a reference, as they are. Raises ValueError with the reason."""
        if reference.source == "file":
            try:
                return self.content(reference.value, largest)
            except ValueError as error:
                raise ValueError(f"{named('file', reference.value)} {error}") from None
        if reference.source == "env":
            value = self._environ.get(reference.value)
            if value is None:
                raise ValueError(f"{named('env', reference.value)} is not set")
            return os.fsencode(value)
        return reference.value.encode("utf-8", "replace")

    def file(self, reference: Reference) -> Path | None:
        """The file that a reference names."""
        return self.path(reference.value) if reference.source == "file" else None

    def path(self, name: str) -> Path:
        """Where a path of the config leads."""
        return self._folder / name

    def content(self, name: str, largest: int) -> bytes:
        """The bytes of a file of the config. Raises ValueError; the reason follows the file's name in a sentence."""
        path = self.path(name)
        try:
            return read_bounded(path, largest)
        except ValueError as error:
            if Path(name).is_absolute() or stamp(path) is not None:
                raise
            raise ValueError(f"{error}; a relative path starts at {self.start}") from None

    def _file(self, reference: Reference) -> str:
        name = reference.value
        try:
            return clean_value(reference, self.content(name, MAX_FILE_SIZE).decode())
        except UnicodeDecodeError:
            raise ValueError(f"{named('file', name)} must be UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{named('file', name)} {error}") from None

    def _variable(self, reference: Reference) -> str:
        name = reference.value
        value = self._environ.get(name)
        if value is None:
            raise ValueError(f"{named('env', name)} is not set")
        try:
            # Bytes that are not UTF-8 come as lone surrogates (PEP 383).
            value.encode()
            return clean_value(reference, value)
        except UnicodeEncodeError:
            raise ValueError(f"{named('env', name)} must be UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{named('env', name)} {error}") from None


class NotingReader(SecretReader):
    """A reader for one load, which notes the files that it reads. Nothing that outlives the load may refer to it.

    `transient` says that one could not be read for a reason that passes without a change. `secrets` gets the files of
    secrets.
    """

    __slots__ = ("_noted", "looks", "secrets", "transient")

    def __init__(
        self, folder: Path, environ: Mapping[str, str], looks: StampCache, secrets: set[Path] | None = None
    ) -> None:
        super().__init__(folder, environ)
        self.looks = looks
        self.secrets: set[Path] = set() if secrets is None else secrets
        self.transient = False
        self._noted: dict[Path, Stamp] = {}

    def __call__(self, reference: Reference) -> str:
        """The value, as `SecretReader`; the file of a secret is noted as one."""
        self._note_secret(reference)
        return super().__call__(reference)

    def raw(self, reference: Reference, largest: int) -> bytes:
        """The bytes, as `SecretReader.raw`; the file of a secret is noted as one."""
        self._note_secret(reference)
        return super().raw(reference, largest)

    def _note_secret(self, reference: Reference) -> None:
        path = self.file(reference)
        if path is not None and reference.is_secret:
            self.secrets.add(path)

    def content(self, name: str, largest: int) -> bytes:
        """The bytes of a file of the config, which is noted. Raises ValueError, as `SecretReader.content`."""
        self.note(name)
        try:
            return super().content(name, largest)
        except Transient:
            self.transient = True
            # Whatever is built without it is built again by the next load.
            self._noted[self.path(name)] = UNREAD
            raise

    def note(self, name: str) -> None:
        """Note a file of the config that others read; call it before they do."""
        path = self.path(name)
        self._noted[path] = self.looks(path)

    def noted(self) -> Stamps:
        """What was noted since the last call."""
        noted = tuple(self._noted.items())
        self._noted.clear()
        return noted


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe without a writer would hold an ordinary open for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_bounded(path: Path, largest: int) -> bytes:
    """A regular file's bytes. Raises ValueError; the reason follows the file's name in a sentence."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("must be a regular file")
            # In chunks: one read reserves its whole size, which fails where memory is limited.
            chunks = iter(partial(file.read, _CHUNK), b"")
            data = b"".join(islice(chunks, largest // _CHUNK + 1))
    except FileNotFoundError:
        raise Absent("does not exist") from None
    except OSError as error:
        kind = Transient if error.errno in TRANSIENT else ValueError
        raise kind(f"cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(data) > largest:
        raise ValueError(f"must be at most {largest >> 10} KiB")
    return data
