"""Mozilla's CA certificates as a folder that OpenSSL looks into when it verifies (`capath`), one file for each.

A context that has loaded certifi's bundle whole holds 670 KiB; one with a folder 19 KiB, and what it has looked up. The
folder is made once in a process (some 20 ms), in memory where there is /dev/shm, and removed when the process ends.
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

from sidekey.ca.roots import is_local, usable
from sidekey.credentials.certificates import encoding as der

PREFIX = "sidekey-ca-"
"""How the folders' names begin."""

_PLACES = ("/dev/shm", None)  # noqa: S108 - made below it by mkdtemp; None is $TMPDIR or what stands in for it
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)

_UTF8 = 12
_ENCODINGS = {_UTF8: "utf-8", **dict.fromkeys((19, 20, 22), "latin-1"), 28: "utf-32-be", 30: "utf-16-be"}
"""ASN.1's types of text that OpenSSL brings to a canonical form, by tag; the rest is hashed as it is."""

_BLANKS = " \t\n\v\f\r"


class CaFolder:
    """The folder of one bundle. It holds public certificates only, but nobody else may write to it: mode 0700.

    It is locked (flock) while the process lives: systemd-tmpfiles leaves it alone, and the next process knows by that
    which folders nobody holds any more.
    """

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle
        self._path: str | None = None
        self._written = 0
        self._descriptor = -1
        self._failed = False

    def path(self) -> str | None:
        """The folder, whole; it is made again where something was removed from it. None where none can be made.

        One call of the kernel where all is well: a folder's time of change tells of every file that comes or goes.
        """
        if self._path is not None:
            with contextlib.suppress(OSError):
                if os.stat(self._path).st_mtime_ns == self._written:  # noqa: PTH116 - on the way of every connection
                    return self._path
            self.remove()
        if not self._failed:
            self._make()
        return self._path

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            os.close(self._descriptor)
            self._path = None

    def _make(self) -> None:
        for place in _PLACES:
            made = None
            self._descriptor = -1
            try:
                made = tempfile.mkdtemp(prefix=PREFIX, dir=place)
                self._descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _fill(Path(made), Path(self._bundle).read_bytes())
                self._written = os.stat(made).st_mtime_ns  # noqa: PTH116 - as above
            except (OSError, ValueError):
                if made is not None:
                    shutil.rmtree(made, ignore_errors=True)
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                continue
            self._path = made
            _sweep(Path(made).parent)
            return
        # Tried once: a file system that is read-only stays so.
        self._failed = True


def _fill(folder: Path, bundle: bytes) -> None:
    """Write each certificate to the file that OpenSSL looks for: HASH.N, counted where hashes are equal."""
    taken: Counter[str] = Counter()
    for pem in _PEM.findall(bundle):
        certificate = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
        if is_local(certificate):
            continue  # a distribution may have the system's store in the place of certifi's
        name = subject_hash(certificate)
        (folder / f"{name}.{taken[name]}").write_bytes(pem + b"\n")
        taken[name] += 1
    if not taken:
        raise ValueError("no certificate is in the bundle")


def _sweep(place: Path) -> None:
    """Remove the folders of processes that were killed."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, or just removed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def subject_hash(certificate: bytes) -> str:
    """OpenSSL's X509_NAME_hash of a certificate's subject (DER), in hex.

    The SHA-1 of the name in canonical form: text in UTF-8, lower case (ASCII's alone), blanks trimmed and joined.
    Raises ValueError where this is no certificate.
    """
    canonical = b""
    for _, _, relative in der.items(der.subject(certificate)):
        pairs = []
        for _, _, pair in der.items(relative):
            (_, kind, _), (tag, whole, value) = der.items(pair)
            pairs.append(_wrap(0x30, kind + _canonical(tag, whole, value)))
        canonical += _wrap(0x31, b"".join(sorted(pairs)))
    return f"{int.from_bytes(hashlib.sha1(canonical, usedforsecurity=False).digest()[:4], 'little'):08x}"


def _canonical(tag: int, whole: bytes, value: bytes) -> bytes:
    encoding = _ENCODINGS.get(tag)
    if encoding is None:
        return whole
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


def mozilla() -> str | None:
    """The folder of certifi's bundle, or None where none can be made and the bundle itself must be loaded."""
    global _mozilla  # noqa: PLW0603 - one in a process, whatever its number of loops, threads and dialers
    with _lock:
        if _mozilla is None:
            _mozilla = CaFolder(bundle())
            atexit.register(_mozilla.remove)
        return _mozilla.path()


def bundle() -> str:
    """The path of certifi's bundle."""
    return certifi.where()


_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def system() -> str:
    """What OpenSSL would read, `$SSL_CERT_FILE` and `$SSL_CERT_DIR` included, in PEM.

    It is read whole: OpenSSL looks into a folder when it verifies, and would find what was added to it meanwhile.
    """
    found: dict[bytes, None] = {}
    for path in _files():
        # What cannot be read is passed over, as OpenSSL does.
        with contextlib.suppress(OSError):
            found |= usable(path.read_bytes())
    return "".join(map(ssl.DER_cert_to_PEM_cert, found))


def _files() -> Iterator[Path]:
    # The paths are None where there is no such file or folder.
    paths = ssl.get_default_verify_paths()
    if paths.cafile is not None:
        yield Path(paths.cafile)
    if paths.capath is not None:
        with contextlib.suppress(OSError):
            yield from sorted(each for each in Path(paths.capath).iterdir() if _HASHED.fullmatch(each.name))
