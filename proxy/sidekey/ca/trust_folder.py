"""Write the trust folder: the certificates of the local CAs in the formats that HTTP clients read, without keys.

`ca.pem` has the local CAs. `bundle.pem` also has the extra roots and Mozilla's, for variables that replace a client's
roots. `truststore.p12` is the bundle for Java, without a password. `wgetrc` points wget to the bundle.
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
from sidekey.credentials.certificates.pem_der import CERTIFICATE_LABELS, parse_pem

CA, BUNDLE, TRUSTSTORE, WGETRC = "ca.pem", "bundle.pem", "truststore.p12", "wgetrc"
FILES = (CA, BUNDLE, TRUSTSTORE, WGETRC)


class TrustFolderError(Exception):
    """The trust folder cannot be written. The message names the path, the reason and the remedy."""


def certificates_in(pem: str) -> str:
    """Return the certificates of a PEM text without duplicates and other blocks. Raises ValueError."""
    pem_blocks = parse_pem(pem.encode("latin-1", "replace"))
    certificates = dict.fromkeys(block.der for block in pem_blocks if block.label in CERTIFICATE_LABELS)
    return "".join(map(ssl.DER_cert_to_PEM_cert, certificates))


def mozilla_pem() -> str:
    """Read Mozilla's CAs from certifi, in PEM."""
    return certifi.contents()


def bundle(*parts: str) -> str:
    """Join the certificates of all PEM parts without duplicates. Raises ValueError."""
    return certificates_in("\n".join(parts))


def wgetrc(path: Path) -> str:
    """Return a wgetrc that makes wget trust the certificates in the file `path`."""
    return f"ca_certificate={path}\n"


def truststore(pem: str) -> bytes:
    """Build a PKCS#12 that Java reads as trusted entries, without a password and therefore without a MAC."""
    entries = []
    for number, block in enumerate(parse_pem(pem.encode())):
        # Java would not verify with a certificate that the library cannot read.
        with contextlib.suppress(ValueError):
            entries.append(PKCS12Certificate(read_certificate(block.der), f"sidekey-{number}".encode()))
    return serialize_java_truststore(entries, NoEncryption())


def is_current(folder: Path, local: str, extra_roots: str) -> bool:
    """Return True if `write` would change nothing. Unreadable files count as changed."""
    try:
        return _is_current(folder.absolute(), bundle(local, extra_roots, mozilla_pem()))
    except OSError:
        return False


def _is_current(path: Path, bundle_pem: str) -> bool:
    """Return True if `bundle.pem` is current. `write` writes it last, so the other files are current as well."""
    return _has_content(path / BUNDLE, bundle_pem.encode()) and all((path / name).exists() for name in FILES)


def write(folder: Path, local: str, extra_roots: str) -> bool:
    """Write all files if the bundle has changed or a file is missing. Return True if so. Raises TrustFolderError."""
    bundle_pem = bundle(local, extra_roots, mozilla_pem())
    path = folder.absolute()
    try:
        if _is_current(path, bundle_pem):
            return False
        make_folder(path, 0o755)
        replace_file(path / CA, local.encode())
        replace_file(path / WGETRC, wgetrc(path / BUNDLE).encode())
        replace_file(path / TRUSTSTORE, truststore(bundle_pem))
        replace_file(path / BUNDLE, bundle_pem.encode())
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        remedy = "set ca.trust_folder to a folder that Sidekey may write to"
        raise TrustFolderError(f"{path} cannot be written: {reason}; {remedy}") from None
    return True


def _has_content(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False


def replace_file(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace a file atomically. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # The umask may have removed bits of `mode`.
            os.fchmod(descriptor, mode)
            file.write(content)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def paths(folder: Path) -> dict[str, Path]:
    """Return the path of each file of a trust folder, by name."""
    return {name: folder.absolute() / name for name in FILES}


def find_missing_file(folder: Path) -> str | None:
    """Return the name of a missing file of a trust folder, or None."""
    return next((name for name, path in paths(folder).items() if not path.is_file()), None)
