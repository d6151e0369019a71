"""Public root certificates: Mozilla's, as a folder for OpenSSL's `capath`, and the system's, as PEM text.

A context that loads certifi's bundle takes 670 KiB. One with a folder takes 19 KiB, plus the certificates that it has
looked up. The process writes the folder once (about 20 ms), to /dev/shm if possible, and removes it at its end.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import certifi

from sidekey.ca.roots import is_local, upstream_roots
from sidekey.credentials.certificates import pem_der

PREFIX = "sidekey-ca-"
"""Prefix of the folders' names."""

_PARENTS = ("/dev/shm", None)  # noqa: S108 - only mkdtemp writes there; None is the default temporary folder
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)

_UTF8 = 12
_ENCODINGS = {_UTF8: "utf-8", **dict.fromkeys((19, 20, 22), "latin-1"), 28: "utf-32-be", 30: "utf-16-be"}
"""Encodings of ASN.1's text types, by tag, that OpenSSL canonicalizes. It hashes other types unchanged."""

_BLANKS = " \t\n\v\f\r"

_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""A file name in OpenSSL's form, HASH.N."""


class CaFolder:
    """The folder of one bundle. Its certificates are public, but only this user may write to it: mode 0700.

    The process locks it (flock). systemd-tmpfiles leaves locked folders alone, and other processes remove unlocked
    ones.
    """

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._path: str | None = None
        self._modified_at = 0
        self._descriptor = -1
        self._failed = False

    def path(self) -> str | None:
        """Return the path of the complete folder, or None if it cannot be written. Rewrite a folder that has changed.

        The usual case is one system call: a folder's modification time changes with each file added or removed.
        """
        if self._path is not None:
            with contextlib.suppress(OSError):
                if os.stat(self._path).st_mtime_ns == self._modified_at:  # noqa: PTH116 - runs for every connection
                    return self._path
            self.remove()
        if not self._failed:
            self._create()
        return self._path

    def remove(self) -> None:
        """Remove the folder and its files."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._descriptor)
            self._path = None

    def _create(self) -> None:
        for parent in _PARENTS:
            path = None
            self._descriptor = -1
            try:
                path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
                self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _fill(Path(path), Path(self._bundle).read_bytes())
                self._modified_at = os.stat(path).st_mtime_ns  # noqa: PTH116 - as above
            except (OSError, ValueError):
                if path is not None:
                    shutil.rmtree(path, ignore_errors=True)
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                continue
            self._path = path
            _remove_abandoned_folders(Path(path).parent)
            return
        # Do not try again: a read-only file system stays so.
        self._failed = True


def _fill(folder: Path, bundle: bytes) -> None:
    """Write each certificate to the file that OpenSSL looks for: HASH.N, where N counts equal hashes."""
    counts: Counter[str] = Counter()
    for pem in _PEM.findall(bundle):
        certificate = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
        if is_local(certificate):
            continue  # a distribution may replace certifi's bundle with the system's store
        name = subject_hash(certificate)
        (folder / f"{name}.{counts[name]}").write_bytes(pem + b"\n")
        counts[name] += 1
    if not counts:
        raise ValueError("no certificate is in the bundle")


def _remove_abandoned_folders(parent: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # it belongs to another user, or was just removed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def subject_hash(certificate: bytes) -> str:
    """Return OpenSSL's X509_NAME_hash of a certificate's subject (DER), in hex.

    It is the SHA-1 of the canonical name: text in UTF-8, ASCII in lower case, blanks trimmed and collapsed. Raises
    ValueError for anything but a certificate.
    """
    canonical = b""
    for _, _, relative_name in pem_der.read_der(pem_der.subject(certificate)):
        pairs = []
        for _, _, pair in pem_der.read_der(relative_name):
            (_, kind, _), (tag, encoded, value) = pem_der.read_der(pair)
            pairs.append(_wrap(0x30, kind + _canonical(tag, encoded, value)))
        canonical += _wrap(0x31, b"".join(sorted(pairs)))
    return f"{int.from_bytes(hashlib.sha1(canonical, usedforsecurity=False).digest()[:4], 'little'):08x}"


def _canonical(tag: int, encoded: bytes, value: bytes) -> bytes:
    encoding = _ENCODINGS.get(tag)
    if encoding is None:
        return encoded
    words = re.sub(f"[{_BLANKS}]+", " ", value.decode(encoding).strip(_BLANKS))
    return _wrap(_UTF8, words.encode().lower())


def _wrap(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content


_mozilla: CaFolder | None = None
_lock = threading.Lock()


def mozilla_folder() -> str | None:
    """Return the folder of certifi's bundle, or None if it cannot be written: then load the bundle itself."""
    global _mozilla  # noqa: PLW0603 - one folder for all loops, threads and dialers of a process
    with _lock:
        if _mozilla is None:
            _mozilla = CaFolder(mozilla_bundle())
            atexit.register(_mozilla.remove)
        return _mozilla.path()


def mozilla_bundle() -> str:
    """Return the path of certifi's bundle."""
    return certifi.where()


def read_system_roots() -> str:
    """Read the system's CA certificates from the places of OpenSSL, which `$SSL_CERT_FILE` and `$SSL_CERT_DIR` change.

    Return PEM. OpenSSL itself would read a folder while it verifies, and so use files that were added since.
    """
    certificates: dict[bytes, None] = {}
    for path in _system_files():
        # OpenSSL skips unreadable files as well.
        with contextlib.suppress(OSError):
            certificates |= upstream_roots(path.read_bytes())
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates))


def _system_files() -> Iterator[Path]:
    # The paths are None if there is no such file or folder.
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None:
        yield Path(paths.cafile)
    if paths.capath is not None:
        with contextlib.suppress(OSError):
            yield from sorted(path for path in Path(paths.capath).iterdir() if _HASHED.fullmatch(path.name))
