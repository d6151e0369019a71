"""Build the variables that name CA files, so that clients trust Sidekey's CAs and those that they trust already.

A file below `$XDG_CACHE_HOME/sidekey` combines the certificates of both. Its name is the hash of its content, so that a
running service keeps the file that it was started with.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sidekey.ca.trust_folder import BUNDLE, CA, WGETRC, bundle, replace_file, wgetrc
from sidekey.config.secrets import read_bounded

REPLACING_VARIABLES: Final = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "npm_config_cafile",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "HTTPLIB2_CA_CERTS",
)
"""Variables whose file replaces a client's CAs."""

ADDING_VARIABLES: Final = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""Variables whose file adds to a client's CAs."""

_MAX_BUNDLE_SIZE: Final = 16 << 20


class TrustError(ValueError):
    """The trust folder or the client's own CAs cannot be used. The message names the file and what to do."""


def trust_variables(trust: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Build variables so that clients trust Sidekey's trust folder, and the CAs that `environ` names.

    Raises TrustError.
    """
    files = _CombinedFiles(environ)
    values = {name: str(files.bundle(name, trust / BUNDLE)) for name in REPLACING_VARIABLES}
    values |= {name: str(files.bundle(name, trust / CA)) for name in ADDING_VARIABLES}
    values["WGETRC"] = str(files.wgetrc(trust / WGETRC, trust / BUNDLE))
    return values


class _CombinedFiles:
    """Writes files that combine the client's CAs, as named in its environment, with Sidekey's."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def bundle(self, name: str, sidekey_file: Path) -> Path:
        """Return a bundle of Sidekey's certificates and those that the variable names.

        If Sidekey's file contains all of them, return that file.
        """
        client_file = self._environ.get(name)
        return self._combine(name, Path(client_file), sidekey_file) if client_file else sidekey_file

    def wgetrc(self, sidekey_wgetrc: Path, sidekey_bundle: Path) -> Path:
        """Return the client's wgetrc with a combined bundle. Without WGETRC, wget reads `~/.wgetrc`."""
        home = self._environ.get("HOME")
        client_file = self._environ.get("WGETRC") or (f"{home}/.wgetrc" if home else "")
        data = _read("WGETRC", Path(client_file)) if client_file and Path(client_file) != sidekey_wgetrc else None
        if data is None:
            return sidekey_wgetrc
        lines, certificates = [], sidekey_bundle
        for line in os.fsdecode(data).splitlines():
            command, _, value = line.partition("=")
            # wget ignores case, hyphens and underscores in names. The last setting wins.
            if command.strip().lower().replace("_", "").replace("-", "") != "cacertificate":
                lines.append(f"{line}\n")
            elif value.strip():
                certificates = self._combine("WGETRC", _expand_home(value.strip(), home), sidekey_bundle)
        text = "".join(lines) + wgetrc(certificates)
        # A wgetrc may contain passwords.
        return self._write(os.fsencode(text), "wgetrc", 0o600)

    def _combine(self, name: str, client_file: Path, sidekey_file: Path) -> Path:
        data = None if client_file == sidekey_file else _read(name, client_file)
        if data is None or not data.strip():
            return sidekey_file
        sidekey_certificates = _read_certificates(sidekey_file)
        try:
            client_certificates = bundle(data.decode("latin-1"))
        except ValueError as error:
            raise TrustError(f"{name}: {client_file}: {error}") from None
        if not client_certificates:
            raise TrustError(f"{name}: {client_file} must contain a certificate in PEM")
        combined = bundle(sidekey_certificates, client_certificates)
        return sidekey_file if combined == sidekey_certificates else self._write(combined.encode(), "pem", 0o644)

    def _write(self, content: bytes, suffix: str, mode: int) -> Path:
        folder = self._folder()
        path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.{suffix}"
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            status = folder.stat()
            # Anyone who can write here decides which CAs the service trusts.
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
                raise TrustError(f"{folder} must belong to this user, and nobody else may write to it")
            replace_file(path, content, mode)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise TrustError(f"{folder} cannot be written: {reason}; set XDG_CACHE_HOME to a writable folder") from None
        return path

    def _folder(self) -> Path:
        # Ignore a relative path (XDG Base Directory Specification).
        base, home = self._environ.get("XDG_CACHE_HOME", ""), self._environ.get("HOME", "")
        if base.startswith("/"):
            return Path(base) / "sidekey" / "trust"
        if home.startswith("/"):
            return Path(home) / ".cache" / "sidekey" / "trust"
        raise TrustError(
            "set XDG_CACHE_HOME: neither it nor HOME names a folder for a file with the service's own certificates"
        )


def _read_certificates(path: Path) -> str:
    try:
        return bundle(read_bounded(path, _MAX_BUNDLE_SIZE).decode("latin-1"))
    except ValueError as error:
        raise TrustError(f"{path} {error}") from None


def _read(name: str, path: Path) -> bytes | None:
    """Read the client's file, or all files of a folder. Return None if the path does not exist."""
    try:
        if not path.is_dir():
            path.stat()
            return read_bounded(path, _MAX_BUNDLE_SIZE)
        return b"\n".join(read_bounded(file, _MAX_BUNDLE_SIZE) for file in sorted(path.iterdir()) if file.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise TrustError(f"{name}: {path} cannot be read: {os.strerror(error.errno or 0)}") from None
    except ValueError as error:
        raise TrustError(f"{name}: {path} {error}") from None


def _expand_home(value: str, home: str | None) -> Path:
    return Path(home) / value.removeprefix("~/") if home and value.startswith("~/") else Path(value)
