"""The trust folder: what callers need to trust the local CAs, in the forms that HTTP clients read. Public, never a key.

`ca.pem` are the local CAs; `bundle.pem` these, the extra roots and Mozilla's, for variables that replace a client's
roots; `truststore.p12` the bundle for Java, without a password; `wgetrc` names the bundle to wget.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
from pathlib import Path

import certifi
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore

from sidekey.ca.storage import make_folder
from sidekey.credentials.certificates.chain import read_certificate
from sidekey.credentials.certificates.encoding import CERTIFICATES, blocks

CA, BUNDLE, TRUSTSTORE, WGETRC = "ca.pem", "bundle.pem", "truststore.p12", "wgetrc"
FILES = (CA, BUNDLE, TRUSTSTORE, WGETRC)


class TrustFolderError(Exception):
    """The trust folder cannot be written; the message says where, why, and the way out."""


def certificates_in(pem: str) -> str:
    """The certificates of a PEM text alone, each once, without words around them. Raises ValueError."""
    found = blocks(pem.encode("latin-1", "replace"))
    certificates = dict.fromkeys(block.der for block in found if block.label in CERTIFICATES)
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates))


def mozilla() -> str:
    """Mozilla's CAs, as certifi has them."""
    return certifi.contents()


def bundle(*parts: str) -> str:
    """One PEM of all the certificates of these. Raises ValueError."""
    return certificates_in("\n".join(parts))


def wgetrc(path: Path) -> str:
    """What makes wget trust the certificates of the file at `path`."""
    return f"ca_certificate={path}\n"


def truststore(pem: str) -> bytes:
    """A PKCS#12 of these certificates that Java reads as trusted entries, without a password and so without a MAC."""
    entries = []
    for number, block in enumerate(blocks(pem.encode())):
        # One that the library does not read is none that Java would verify with.
        with contextlib.suppress(ValueError):
            entries.append(PKCS12Certificate(read_certificate(block.der), f"sidekey-{number}".encode()))
    return serialize_java_truststore(entries, NoEncryption())


def current(folder: Path, local: str, extra_roots: str) -> bool:
    """Whether the files are what `write` would make of the same. Raises nothing: what cannot be read is not current."""
    try:
        return _current(folder.absolute(), bundle(local, extra_roots, mozilla()))
    except OSError:
        return False


def _current(path: Path, whole: str) -> bool:
    """`bundle.pem` is written last: where it is current the others are."""
    return _is(path / BUNDLE, whole.encode()) and all((path / name).exists() for name in FILES)


def write(folder: Path, local: str, extra_roots: str) -> bool:
    """Write the files whose content differs; return True if any did. Raises TrustFolderError."""
    whole = bundle(local, extra_roots, mozilla())
    path = folder.absolute()
    try:
        if _current(path, whole):
            return False
        make_folder(path, 0o755)
        replace_file(path / CA, local.encode())
        replace_file(path / WGETRC, wgetrc(path / BUNDLE).encode())
        replace_file(path / TRUSTSTORE, truststore(whole))
        replace_file(path / BUNDLE, whole.encode())
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        way_out = "set ca.trust_folder to a folder that Sidekey may write to"
        raise TrustFolderError(f"{path} cannot be written: {reason}; {way_out}") from None
    return True


def _is(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file in one step: whoever reads it sees all of the old or all of the new. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Whatever the umask is.
            os.fchmod(descriptor, mode)
            file.write(content)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def paths(folder: Path) -> dict[str, Path]:
    """The files of a trust folder by their names."""
    return {name: folder.absolute() / name for name in FILES}


def missing(folder: Path) -> str | None:
    """Which file of a trust folder is not there, if one is."""
    return next((name for name, path in paths(folder).items() if not path.is_file()), None)
