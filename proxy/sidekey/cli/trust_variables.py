"""The variables that name what a service's clients trust. What one names already stays trusted.

Theirs and ours go into a file of both, below `$XDG_CACHE_HOME/sidekey`. It is named by its content, so that whatever
runs keeps the file that it was started with.
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

REPLACING: Final = (
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
"""Variables whose file replaces a client's roots."""

ADDING: Final = ("NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""Variables whose file adds to a client's roots."""

_MAX_BUNDLE_SIZE: Final = 16 << 20


class KeptTrustError(ValueError):
    """What a variable names cannot be kept; the message says which, why, and the way out."""


def trust_variables(trust: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What to set so that clients trust what they do by `environ`, and what is in this trust folder.

    Raises KeptTrustError.
    """
    kept = _Kept(environ)
    values = {name: str(kept.with_theirs(name, trust / BUNDLE)) for name in REPLACING}
    values |= {name: str(kept.with_theirs(name, trust / CA)) for name in ADDING}
    values["WGETRC"] = str(kept.wgetrc(trust / WGETRC, trust / BUNDLE))
    return values


class _Kept:
    """Files that join what an environment's variables name with ours."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def with_theirs(self, name: str, ours: Path) -> Path:
        """A file with the certificates of what this variable names and with ours; ours, where that is all of them."""
        theirs = self._environ.get(name)
        return self._joined(name, Path(theirs), ours) if theirs else ours

    def wgetrc(self, ours: Path, our_bundle: Path) -> Path:
        """Their settings of wget with a bundle of both; without WGETRC, wget reads `~/.wgetrc`."""
        home = self._environ.get("HOME")
        named = self._environ.get("WGETRC") or (f"{home}/.wgetrc" if home else "")
        data = _content("WGETRC", Path(named)) if named and Path(named) != ours else None
        if data is None:
            return ours
        lines, certificates = [], our_bundle
        for line in os.fsdecode(data).splitlines():
            command, _, value = line.partition("=")
            # Commands are read without regard to case, hyphens and underscores; the last one counts.
            if command.strip().lower().replace("_", "").replace("-", "") != "cacertificate":
                lines.append(f"{line}\n")
            elif value.strip():
                certificates = self._joined("WGETRC", _from_home(value.strip(), home), our_bundle)
        # It may hold passwords.
        text = "".join(lines) + wgetrc(certificates)
        return self._keep(os.fsencode(text), "wgetrc", 0o600)

    def _joined(self, name: str, theirs: Path, ours: Path) -> Path:
        data = None if theirs == ours else _content(name, theirs)
        if data is None or not data.strip():
            return ours
        own = _ours(ours)
        try:
            kept = bundle(data.decode("latin-1"))
        except ValueError as error:
            raise KeptTrustError(f"{name}: {theirs}: {error}") from None
        if not kept:
            raise KeptTrustError(f"{name}: {theirs} must contain a certificate in PEM")
        whole = bundle(own, kept)
        return ours if whole == own else self._keep(whole.encode(), "pem", 0o644)

    def _keep(self, content: bytes, suffix: str, mode: int) -> Path:
        folder = self._folder()
        path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.{suffix}"
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = folder.stat()
            # Who may write here decides what the service trusts.
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                raise KeptTrustError(f"{folder} must be this user's, and writable for nobody else")
            replace_file(path, content, mode)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise KeptTrustError(
                f"{folder} cannot be written: {reason}; set XDG_CACHE_HOME to a folder that can be"
            ) from None
        return path

    def _folder(self) -> Path:
        # One that is not absolute is to be ignored (XDG base directory specification).
        base, home = self._environ.get("XDG_CACHE_HOME", ""), self._environ.get("HOME", "")
        if base.startswith("/"):
            return Path(base) / "sidekey" / "trust"
        if home.startswith("/"):
            return Path(home) / ".cache" / "sidekey" / "trust"
        raise KeptTrustError(
            "set XDG_CACHE_HOME: neither it nor HOME says where a file with the service's own certificates may be kept"
        )


def _ours(path: Path) -> str:
    try:
        return bundle(read_bounded(path, _MAX_BUNDLE_SIZE).decode("latin-1"))
    except ValueError as error:
        raise KeptTrustError(f"{path} {error}") from None


def _content(name: str, path: Path) -> bytes | None:
    """What is in their file, or in all files of their folder; None where there is none, so that nothing is lost."""
    try:
        if not path.is_dir():
            path.stat()
            return read_bounded(path, _MAX_BUNDLE_SIZE)
        return b"\n".join(read_bounded(each, _MAX_BUNDLE_SIZE) for each in sorted(path.iterdir()) if each.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise KeptTrustError(f"{name}: {path} cannot be read: {os.strerror(error.errno or 0)}") from None
    except ValueError as error:
        raise KeptTrustError(f"{name}: {path} {error}") from None


def _from_home(value: str, home: str | None) -> Path:
    return Path(home) / value.removeprefix("~/") if home and value.startswith("~/") else Path(value)
